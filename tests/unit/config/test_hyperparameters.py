"""The hyperparameters of the full budget: those of the papers and of their authors' code, as the methods' YAML says."""

from functools import cache
from typing import Any

import pytest

from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import Config


@cache
def composed(method: str, budget: str = "full") -> Config:
    return load_config(["stage=pretrain", "run_dir=x", f"method={method}", f"budget={budget}", "data.root=x"])


def strengths(values: tuple[float, float, float, float]) -> dict[str, float]:
    names = ("brightness", "contrast", "saturation", "hue")
    return {"probability": 0.8} | dict(zip(names, values, strict=True))


STRONG = strengths((0.4, 0.4, 0.4, 0.1))  # half of SimCLR's (.8, .8, .8, .2), 2002.05709 appendix B.9; also MoCo v2's
WEAK = strengths((0.4, 0.4, 0.2, 0.1))  # 2006.07733 table 6


@pytest.mark.parametrize(
    ("method", "jitter", "blurs", "solarizes"),
    [
        ("simclr", STRONG, (0.5, 0.5), (0.0, 0.0)),  # 2002.05709 appendix A
        ("byol", WEAK, (1.0, 0.1), (0.0, 0.2)),  # 2006.07733 table 6
        ("moco", STRONG, (0.5, 0.5), (0.0, 0.0)),  # 2003.04297 section 3
    ],
)
def test_the_views_are_the_papers_except_for_the_smallest_crop(
    method: str, jitter: dict[str, float], blurs: tuple[float, float], solarizes: tuple[float, float]
) -> None:
    config = composed(method)
    assert config.method
    common: dict[str, Any] = {"crop_area": (0.2, 1.0), "flip": 0.5, "jitter": jitter, "grey": 0.2}
    expected = [common | {"blur": b, "solarize": s} for b, s in zip(blurs, solarizes, strict=True)]
    assert [view.model_dump() for view in config.method.views] == expected


@pytest.mark.parametrize(
    ("method", "name", "scaling", "weight_decay", "warmup_epochs"),
    [
        ("simclr", "lars", "sqrt", 1e-4, 10),  # 2002.05709 section 2.3; the decay is that of the authors' commands
        ("byol", "lars", "sqrt", 1e-6, 10),  # 2006.07733 section 3.3
        ("moco", "sgd", "linear", 1e-4, 0),  # 1911.05722 section 4
    ],
)
def test_the_optimizers_are_the_papers(
    method: str, name: str, scaling: str, weight_decay: float, warmup_epochs: float
) -> None:
    config = composed(method)
    assert config.method
    optimizer = config.method.optimizer
    assert (optimizer.name, optimizer.lr_scaling, optimizer.weight_decay) == (name, scaling, weight_decay)
    assert optimizer.momentum == 0.9
    assert config.method.warmup_epochs == warmup_epochs
    assert (config.method.epochs, config.method.batch_size, config.method.split) == (200, 256, "unlabeled")
    assert (config.budget.resolution, config.budget.max_steps) == (96, None)


@pytest.mark.parametrize(
    ("method", "sizes"),
    [
        ("simclr", {"projector_hidden": 512, "projector_out": 128}),  # 2002.05709 section 4.2
        ("byol", {"hidden": 4096, "out": 256}),  # 2006.07733 section 3.3
        ("moco", {"projector_hidden": 512, "projector_out": 128, "symmetric": False}),  # 2003.04297 section 3
    ],
)
def test_the_heads_have_the_papers_sizes(method: str, sizes: dict[str, int]) -> None:
    config = composed(method)
    assert config.method and {key: config.method.model[key] for key in sizes} == sizes


def test_a_long_training_has_byols_decay_for_1000_epochs() -> None:
    config = composed("byol", "long")
    assert config.method and config.method.optimizer.weight_decay == 1.5e-6
    assert config.method.epochs == 800


def test_the_evaluations_have_their_papers_values() -> None:
    config = composed("simclr")
    probe = config.probe
    assert (probe.l2_low, probe.l2_high, probe.l2_count) == (1e-6, 1e5, 45)  # 2002.05709 appendix B.8
    assert config.pretrain.knn_temperature == 0.07  # 1805.01978 section 3.4
    assert list(config.corruptions.severities) == [1, 2, 3, 4, 5]  # 1903.12261
