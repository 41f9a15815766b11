import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import resnet18

from ssl_pkg.config.compose import load_config
from ssl_pkg.data.stl10 import open_stl10
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.evaluation.width.measures import Unit, network_units
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.run.weights import save_weights
from ssl_pkg.stages import width


@pytest.mark.slow
def test_equal_weights_have_equal_widths_whatever_the_seed_of_their_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All models are measured with the same noise, so that their differences are not those of the noise."""

    def only_average(*arguments: Any, **more: Any) -> list[Unit]:
        return [unit for unit in network_units(*arguments, **more) if unit.name.startswith("adaptive_average")]

    monkeypatch.setattr(width, "network_units", only_average)
    generate(tmp_path / "data", Sizes(train_per_class=2, test_per_class=1, unlabeled=1, ood_per_class=1))
    classes = open_stl10(tmp_path / "data").classes
    torch.manual_seed(0)
    network = resnet18(num_classes=10)
    found = []
    for seed in (0, 5):
        source, run = tmp_path / f"source-{seed}", tmp_path / f"width-{seed}"
        source.mkdir()
        save_weights(source / "model.safetensors", network, {})
        facts = {"model": "x", "method": "x", "adaptation": "finetune", "seed": seed, "resolution": 32}
        (source / "result.json").write_text(json.dumps({**facts, "classes": list(classes)}))
        line = ["stage=width", f"source={source}", f"seed={seed}", f"run_dir={run}", f"data.root={tmp_path / 'data'}"]
        width.run(load_config([*line, "budget=tiny", "width.images=4", "device=cpu", "threads=1"]), InterruptFlag())
        result = RunDirectory(run).result()
        assert result is not None
        found.append(result["rows"])
    assert found[0] == found[1]
    assert [row["measure"] for row in found[0]] == ["adaptive_average"] * 2
