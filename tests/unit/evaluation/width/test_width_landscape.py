import pytest
import torch
from small_networks import convolutional, draw, labels, objective

from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.landscape import Landscape, filter_normalized, spaced


def test_filters_have_the_norms_of_the_weights_and_biases_do_not_move() -> None:
    found = objective(fold_batch_norm(convolutional()), draw(6, 3, 9, 9), labels(6, 4))
    direction = filter_normalized(found, 0, 0)
    for part, weight in zip(found.split(direction), found.parameters.values(), strict=True):
        if weight.dim() == 1:
            assert not part.any()
            continue
        for moved, own in zip(part.view_as(weight), weight, strict=True):  # one output channel after the other
            assert moved.norm().item() == pytest.approx(own.norm().item(), rel=1e-5)


def test_every_model_gets_the_same_noise() -> None:
    network = fold_batch_norm(convolutional())
    inputs, target = draw(6, 3, 9, 9), labels(6, 4)
    first = objective(network, inputs, target)
    direction = filter_normalized(first, 0, 0)
    for weight in network.parameters():
        weight.mul_(draw(*weight.shape, seed=3).abs())
    second = objective(network, inputs, target)
    other = filter_normalized(second, 0, 0)
    for one, two, weight in zip(first.split(direction), second.split(other), first.parameters.values(), strict=True):
        if weight.dim() > 1:
            cosine = torch.cosine_similarity(one.view(len(weight), -1), two.view(len(weight), -1))
            torch.testing.assert_close(cosine, torch.ones(len(weight)))
    assert abs(torch.cosine_similarity(direction, filter_normalized(first, 0, 1), dim=0)) < 0.2


def test_line_and_plane_pass_through_the_model_and_agree() -> None:
    found = objective(fold_batch_norm(convolutional()), draw(6, 3, 9, 9), labels(6, 4))
    landscape, grid = Landscape(found, seed=0), spaced(0.5, 5)
    loss, accuracy = landscape.line(grid)
    assert (loss[2], accuracy[2]) == (found.unperturbed.loss, found.unperturbed.accuracy)
    assert [landscape.row(alpha, grid)[2] for alpha in grid] == loss
    expected = found.at(found.weights - 0.5 * filter_normalized(found, 0, 0) + 0.25 * filter_normalized(found, 0, 1))
    assert landscape.row(-0.5, grid)[3] == pytest.approx(expected.loss, rel=1e-6)
    assert len(set(loss)) == 5


def test_the_middle_of_an_odd_number_of_steps_is_zero() -> None:
    assert spaced(0.3, 3) == [-0.3, 0.0, 0.3]
    assert all(spaced(0.7, points)[points // 2] == 0 for points in range(3, 60, 2))
    assert spaced(1.0, 5) == [-1.0, -0.5, 0.0, 0.5, 1.0]
