"""Which models a figure shows that has no room for all of them."""

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from analysis.estimates import estimate
from analysis.names import Model
from analysis.study import Study
from analysis.words import N_, _, ngettext
from ssl_pkg.catalogue import RANDOM, SUPERVISED

ROWS: Final = 40  # models that have a row each in a figure no higher than a page
LINES: Final = 16  # models whose lines in one panel can be distinguished
_REFERENCES: Final = (RANDOM, SUPERVISED)
_LEFT_OUT: Final = {  # by the references that are shown
    (): N_("those with the highest test accuracy"),
    (RANDOM,): N_("the random one, those with the highest test accuracy"),
    (SUPERVISED,): N_("the supervised one, those with the highest test accuracy"),
    _REFERENCES: N_("the random and the supervised one, those with the highest test accuracy"),
}


def selected(study: Study, models: Sequence[Model], most: int) -> list[Model]:
    """At most `most` of the models, in their order.

    They are the references that a sweep does not change, the models with the highest test accuracy, and about as many
    of the others, evenly spaced by rank down to the lowest.
    """
    if len(models) <= most:
        return list(models)
    references = [model for model in models if model.method in _REFERENCES and not model.variant][: most // 2]
    found = {model: estimate(study, model, "test", "accuracy") for model in models if model not in references}
    ranked = sorted(found, key=lambda model: -(entry.value if (entry := found[model]) else -1.0))
    room = most - len(references)
    best, others = ranked[: room - room // 2], ranked[room - room // 2 :]
    spread = [others[place] for place in np.linspace(0, len(others) - 1, room // 2).round().astype(int)]
    return [model for model in models if model in (*references, *best, *spread)]


def left_out(models: Collection[Model], most: int) -> str:
    """The sentence of a caption on which of the models that can be drawn the figure shows; empty if it shows all."""
    if len(models) <= most:
        return ""
    own = tuple(name for name in _REFERENCES if any(model.method == name and not model.variant for model in models))
    return " " + ngettext(
        "Of {n} model, {most} are shown: {first}, and others from all ranks below, down to the lowest. The numbers of "
        "all models are in tables/results.csv.",
        "Of {n} models, {most} are shown: {first}, and others from all ranks below, down to the lowest. The numbers of "
        "all models are in tables/results.csv.",
        len(models),
        most=most,
        first=_(_LEFT_OUT[own]),
    )
