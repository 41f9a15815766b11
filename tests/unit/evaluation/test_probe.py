import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from ssl_pkg.config.stage_settings import Probe
from ssl_pkg.data.images import holdout
from ssl_pkg.evaluation import logistic_regression
from ssl_pkg.evaluation.probe import LinearProbe, fit_probe

CONFIG = Probe(l2_low=1e-4, l2_high=10.0, l2_count=4, validation_fraction=0.25)


def features() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = generator.normal(size=(3, 6))
    scale = np.array([0.01, 1, 10, 1, 100, 1])
    return ((centres[labels] + generator.normal(size=(300, 6))) * scale + 5).astype(np.float32), labels


def fit(x: np.ndarray, labels: np.ndarray, config: Probe = CONFIG) -> LinearProbe:
    return fit_probe(x, labels, config, lambda done, total: None)


def test_folded_weights_predict_as_the_standardised_classifier_does() -> None:
    x, labels = features()
    probe = fit(x, labels)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / (len(x) * probe.l2), max_iter=2000, tol=1e-8).fit(scaler.transform(x), labels)
    expected = model.decision_function(scaler.transform(x))
    np.testing.assert_allclose(x @ probe.weight.T + probe.bias, expected, atol=1e-3)


@pytest.mark.slow
def test_penalty_has_the_smallest_log_loss_on_held_out_train() -> None:
    x, labels = features()
    probe = fit(x, labels)
    assert [trial.l2 for trial in probe.tried] == pytest.approx(np.geomspace(10, 1e-4, 4).tolist())
    kept, held = holdout(labels, 0.25)
    standard = (x - x[kept].mean(axis=0)) / (x[kept].std(axis=0) + 1e-6)
    losses = []
    for trial in probe.tried:
        model = LogisticRegression(C=1 / (len(kept) * trial.l2), max_iter=5000, tol=1e-8)
        model.fit(standard[kept], labels[kept])
        losses.append(log_loss(labels[held], model.predict_proba(standard[held])))
        assert trial.converged
        assert trial.log_loss == pytest.approx(losses[-1], abs=1e-4)
        assert trial.accuracy == pytest.approx((model.predict(standard[held]) == labels[held]).mean())
    assert probe.l2 == probe.tried[int(np.argmin(losses))].l2
    assert probe.chosen == probe.tried[int(np.argmin(losses))]


def test_penalty_that_shrinks_the_weights_to_nothing_is_not_chosen() -> None:
    """At l2 = 1e5 a probe can be the most accurate one, but its loss is the ln 3 of a constant."""
    labels = np.arange(300) % 3
    x = (1.5 * np.eye(3)[labels] + np.random.default_rng(0).normal(size=(300, 3))).astype(np.float32)
    probe = fit(x, labels, Probe(l2_low=1e-6, l2_high=1e5, l2_count=12, validation_fraction=0.25))
    assert probe.tried[0].accuracy == max(trial.accuracy for trial in probe.tried)
    assert probe.tried[0].log_loss == pytest.approx(np.log(3), abs=1e-3)
    assert 1e-5 < probe.l2 < 1


def test_the_holdout_split_is_not_used_for_the_fit() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 400)).astype(np.float32)  # random features can only be memorised
    labels = np.arange(300) % 3
    assert all(trial.accuracy < 0.5 for trial in fit(x, labels).tried)


@pytest.mark.slow
def test_a_final_fit_that_does_not_converge_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The final fit has no weights to start from, unlike those of the grid, and so needs more iterations."""
    x, labels = features()
    config = Probe(l2_low=1e-4, l2_high=10.0, l2_count=40, validation_fraction=0.25)
    assert fit(x, labels, config).converged
    monkeypatch.setattr(logistic_regression, "ROUNDS", (5,))
    probe = fit(x, labels, config)
    assert probe.chosen is not None
    assert probe.chosen.converged
    assert not probe.converged


def test_features_that_are_not_finite_give_a_reason() -> None:
    x, labels = features()
    x[4, 2] = np.inf
    probe = fit(x, labels)
    assert probe.reason == "the embeddings of 1 of 300 images are not finite"
    assert probe.chosen is None
    assert np.isnan(probe.weight).all()
