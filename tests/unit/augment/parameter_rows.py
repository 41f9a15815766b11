import dataclasses

import numpy as np

from ssl_pkg.augment.parameters import Integers, Parameters


def subset(parameters: Parameters, rows: Integers) -> Parameters:
    """The parameters of these rows of the batch, in this order."""
    taken = {field.name: np.asarray(getattr(parameters, field.name))[rows] for field in dataclasses.fields(Parameters)}
    return Parameters(**taken)
