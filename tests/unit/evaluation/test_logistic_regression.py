import numpy as np
import pytest
import sklearn.linear_model
import torch
import torch.nn.functional as F

from ssl_pkg.evaluation import logistic_regression
from ssl_pkg.evaluation.logistic_regression import LogisticRegression

L2 = (10.0, 1e-1, 1e-3, 1e-4, 1e-6)


def data(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features whose covariance has eigenvalues over four decades, as those of an encoder, and labels."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 5
    spectrum = np.geomspace(1, 1e-2, size)
    mixed = (0.7 * generator.normal(size=(5, size))[labels] + generator.normal(size=(count, size))) * spectrum
    x = mixed @ np.linalg.qr(generator.normal(size=(size, size)))[0]
    return (x - x.mean(axis=0)) / x.std(axis=0), labels


@pytest.mark.slow
@pytest.mark.parametrize("l2", L2)
@pytest.mark.parametrize(("count", "size"), [(400, 32), (60, 100)])
def test_equal_to_scikit_learn(count: int, size: int, l2: float) -> None:
    x, labels = data(count, size)
    test = np.random.default_rng(1).normal(size=(2000, size))
    ours = LogisticRegression(x, labels)
    assert ours.fit(l2)
    theirs = sklearn.linear_model.LogisticRegression(C=1 / (count * l2), tol=1e-10, max_iter=20_000, solver="newton-cg")
    theirs.fit(x, labels)
    scores = test @ ours.weight.T + ours.bias
    assert np.mean(scores.argmax(axis=1) == theirs.predict(test)) >= 0.999
    assert np.linalg.norm(ours.weight - theirs.coef_) < 5e-3 * np.linalg.norm(theirs.coef_)


@pytest.mark.parametrize("l2", L2)
def test_gradient_vanishes_at_the_solution(l2: float) -> None:
    x, labels = data(400, 32)
    model = LogisticRegression(x, labels)
    model.fit(l2)
    weight = torch.tensor(model.weight, requires_grad=True)
    logits = torch.from_numpy(x) @ weight.T + torch.from_numpy(model.bias)
    (F.cross_entropy(logits, torch.from_numpy(labels)) + l2 / 2 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert weight.grad.norm() < 1e-2 * l2 * weight.norm()


def test_solution_does_not_depend_on_the_earlier_fits() -> None:
    x, labels = data(400, 32)
    path, alone = LogisticRegression(x, labels), LogisticRegression(x, labels)
    for l2 in L2[:3]:
        path.fit(l2)
    alone.fit(L2[2])
    np.testing.assert_allclose(path.weight, alone.weight, atol=1e-3)


@pytest.mark.parametrize("counts", [(3, 1), (1, 1, 1), (5, 7, 11, 2), (40, 3)])
def test_equal_features_give_the_frequencies_of_the_classes(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    model = LogisticRegression(np.zeros((len(labels), 3)), labels)
    assert model.fit(1e-3)
    probabilities = np.exp(model.bias) / np.exp(model.bias).sum()
    assert probabilities == pytest.approx(np.array(counts) / len(labels), abs=1e-5)
    assert not model.weight.any()


def test_fit_that_stops_early_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "ROUNDS", (2,))
    assert not LogisticRegression(*data(400, 32)).fit(1e-4)
