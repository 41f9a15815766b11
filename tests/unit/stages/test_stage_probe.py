import numpy as np

from ssl_pkg.evaluation.probe import LinearProbe
from ssl_pkg.stages.probe import _from_state, _notes, _state

WEIGHT = np.ones((2, 3), np.float32)


def test_fits_that_did_not_converge_are_named_also_after_an_interruption() -> None:
    good, bad = (LinearProbe(WEIGHT, WEIGHT[:, 0], 0.1, [], converged=converged) for converged in (True, False))
    assert _notes(good, [good]) == []
    probe, *of_folds = (_from_state(_state(entry)) for entry in (bad, good, bad))
    of_train, of_fold = _notes(probe, of_folds)
    assert "on all of train did not converge" in of_train
    assert "on fold 1 did not converge" in of_fold
