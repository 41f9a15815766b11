import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ssl_pkg.catalogue import Probe
from ssl_pkg.data.images import holdout
from ssl_pkg.evaluation.probe import fit_probe

CONFIG = Probe(l2_low=1e-4, l2_high=10.0, l2_count=4, validation_fraction=0.25)


def features() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = generator.normal(size=(3, 6))
    scale = np.array([0.01, 1, 10, 1, 100, 1])
    return ((centres[labels] + generator.normal(size=(300, 6))) * scale + 5).astype(np.float32), labels


def test_folded_weights_predict_as_the_standardised_classifier_does() -> None:
    x, labels = features()
    probe = fit_probe(x, labels, CONFIG, lambda done, total: None)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / (len(x) * probe.l2), max_iter=2000, tol=1e-6).fit(scaler.transform(x), labels)
    np.testing.assert_allclose(x @ probe.weight.T + probe.bias, model.decision_function(scaler.transform(x)), atol=0.05)


def test_penalty_is_chosen_on_held_out_train_only() -> None:
    x, labels = features()
    probe = fit_probe(x, labels, CONFIG, lambda done, total: None)
    best = max(accuracy for _, accuracy in probe.tried)
    assert probe.l2 == next(l2 for l2, accuracy in probe.tried if accuracy == best)
    assert [l2 for l2, _ in probe.tried] == pytest.approx(np.geomspace(10, 1e-4, 4).tolist())

    kept, held = holdout(labels, 0.25)
    standard = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    strongest = LogisticRegression(C=1 / (len(kept) * 10.0)).fit(standard[kept], labels[kept])
    assert probe.tried[0][1] == pytest.approx((strongest.predict(standard[held]) == labels[held]).mean(), abs=0.02)


def test_the_holdout_split_is_not_used_for_the_fit() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 400)).astype(np.float32)  # random features can only be memorised
    labels = np.arange(300) % 3
    probe = fit_probe(x, labels, CONFIG, lambda done, total: None)
    assert all(accuracy < 0.5 for _, accuracy in probe.tried)
