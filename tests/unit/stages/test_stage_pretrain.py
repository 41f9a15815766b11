from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssl_pkg.config.compose import load_config
from ssl_pkg.stages.pretrain import _knn

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
