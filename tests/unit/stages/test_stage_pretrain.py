from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssl_pkg.config.compose import load_config
from ssl_pkg.errors import BadInput
from ssl_pkg.stages.pretrain import _knn, build_method

LABELS = np.arange(60) % 3


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_the_validation_counts_the_images_that_it_classifies(value: float) -> None:
    line = ["stage=pretrain", "method=simclr", "run_dir=-", "data.root=synthetic", "budget=tiny"]
    config = load_config([*line, "probe.validation_fraction=0.2"])
    features = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    features[7, 2] += value
    dataset: Any = SimpleNamespace(train=SimpleNamespace(labels=LABELS))
    row = _knn(config, features, dataset)
    assert row["n"] == 12  # a fifth of train
    assert row.get("reason") == (None if value == 0 else "the embeddings of 1 of 60 images are not finite")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("temperature=-1", "temperature=-1 is not possible"),
        ("_target_=collections.OrderedDict", "_target_=collections.OrderedDict is not a method"),
        (
            "_target_=ssl_pkg.methods.supervised.Supervised",
            "is not a method: give one like ssl_pkg.methods.simclr.SimCLR",
        ),
        ("_target_=ssl_pkg.methods.simsiam.SimSiam", "_target_ names no class"),
        ("_target_=SimCLR", "_target_ names no class"),
        ("queue_size=4398046511104", "too large for this machine's memory"),
        ("queue_size=36028797018963968", "too large for this machine's memory"),
    ],
)
def test_a_model_that_can_not_be_built_is_bad_input_and_nothing_is_logged(
    override: str, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = ["stage=pretrain", "method=moco", "run_dir=-", "data.root=synthetic", "budget=tiny"]
    config = load_config([*line, f"method.model.{override}"])
    assert config.method is not None
    with pytest.raises(BadInput, match=sentence):
        build_method(config.method, seed=0)
    assert not caplog.records
