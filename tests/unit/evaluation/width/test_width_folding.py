import copy

import pytest
import torch
from small_networks import draw, with_statistics
from torch import nn
from torchvision.models import resnet18

from ssl_pkg.evaluation.width.folding import fold_batch_norm


def test_a_folded_resnet18_is_the_same_function() -> None:
    torch.manual_seed(0)
    model = with_statistics(resnet18(num_classes=7)).train()
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norm(model)
    images = draw(4, 3, 48, 48)
    assert model.training
    with torch.no_grad():
        expected = model.eval()(images)
        torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1  # otherwise the comparison would be trivial
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not list(folded.buffers())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_folding_is_invariant_to_a_scale_that_the_batch_norm_absorbs() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0)).eval()
    with_statistics(model)
    plain = fold_batch_norm(model)
    convolution, norm = model
    convolution.weight.data *= 3
    convolution.bias.data *= 3
    norm.running_mean *= 3
    norm.running_var *= 9
    for before, after in zip(plain.parameters(), fold_batch_norm(model).parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [[nn.BatchNorm2d(3)], [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)]])
def test_a_batch_norm_without_a_preceding_convolution_is_refused(layers: list[nn.Module]) -> None:
    with pytest.raises(ValueError, match="does not follow a convolution"):
        fold_batch_norm(nn.Sequential(*layers))
