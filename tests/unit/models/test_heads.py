"""Each head equals the layers of its paper, written out in float64."""

import torch
from torch import Tensor, nn

from ssl_pkg.models.heads import byol_mlp, moco_projector, simclr_projector

ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def built(head: nn.Sequential) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """The head in float64 with random parameters, and these by their names."""
    head, generator = head.double(), torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        nn.init.uniform_(parameter, -1.0, 1.0, generator=generator)
    return head, dict(head.named_parameters())


def normalised(x: Tensor) -> Tensor:
    """Each column minus its mean over the batch, divided by its standard deviation."""
    centred = x - x.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + 1e-5).sqrt()


def test_simclrs_projector_normalises_the_batch_after_each_linear_layer() -> None:
    head, p = built(simclr_projector(5, 4, 3))
    hidden = normalised(ROWS @ p["0.weight"].T) * p["1.weight"] + p["1.bias"]
    expected = normalised(hidden.clamp(min=0) @ p["3.weight"].T) * p["4.weight"]
    torch.testing.assert_close(head(ROWS), expected)


def test_byols_mlp_normalises_the_batch_in_its_hidden_layer_only() -> None:
    head, p = built(byol_mlp(5, 4, 3))
    hidden = normalised(ROWS @ p["0.weight"].T + p["0.bias"]) * p["1.weight"] + p["1.bias"]
    torch.testing.assert_close(head(ROWS), hidden.clamp(min=0) @ p["3.weight"].T)


def test_mocos_projector_has_a_relu_and_no_batch_normalisation() -> None:
    head, p = built(moco_projector(5, 4, 3))
    hidden = (ROWS @ p["0.weight"].T + p["0.bias"]).clamp(min=0)
    torch.testing.assert_close(head(ROWS), hidden @ p["2.weight"].T + p["2.bias"])
