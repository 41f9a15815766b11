"""Stages of collapsed or diverged models report what can be computed, and the reason for each missing value."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.models.encoder import build_encoder
from ssl_pkg.rows import DIMENSIONS
from ssl_pkg.run.directory import write_json
from ssl_pkg.run.weights import save_weights

SMALL = ("budget=tiny", "threads=1", "data.contact_sheet=false")
OF_STAGE = {"stage=embed": ("pretrain.knn_neighbours=3", "embed.points=20"), "stage=width": ("width.images=20",)}
RUN = """
import json, sys
from ssl_pkg.__main__ import main
print(json.dumps([main(line) for line in json.loads(sys.argv[1])]))
"""


def collapse(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
            nn.init.ones_(module.bias)


def diverge(encoder: nn.Module) -> None:
    encoder.get_submodule("conv1").weight.data.fill_(torch.nan)


def explode(encoder: nn.Module) -> None:
    encoder.get_submodule("layer4.1.bn2").weight.data.fill_(1e30)  # finite in float32, not in float16


DAMAGES: dict[str, Callable[[nn.Module], None]] = {"collapsed": collapse, "nan": diverge, "huge": explode}
STAGES = {
    "collapsed": ("probe", "embed", "width"),
    "nan": ("probe", "ood", "embed", "width"),
    "huge": ("probe", "embed"),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs named DAMAGE-STAGE for each damage, which evaluate the probe, and fine-tunings of the collapsed encoder."""
    root = tmp_path_factory.mktemp("diverged")
    generate(root / "data", Sizes(train_per_class=4, test_per_class=2, unlabeled=20, ood_per_class=2))
    lines = []
    for name, damage in DAMAGES.items():
        torch.manual_seed(0)
        encoder = build_encoder()
        damage(encoder)
        (root / name).mkdir()
        save_weights(root / name / "encoder.safetensors", encoder, {})
        facts = {"stage": "pretrain", "model": "simclr", "method": "simclr", "adaptation": None, "seed": 0}
        write_json(root / name / "result.json", facts | {"resolution": 32, "classes": ["x"] * 10, "rows": []})
        for stage in STAGES[name]:
            source = name if stage == "probe" else f"{name}-probe"
            lines.append([f"stage={stage}", f"source={root / source}", f"run_dir={root / f'{name}-{stage}'}"])
    tune = ["stage=finetune", f"source={root / 'collapsed'}", "finetune.batch_size=8"]
    lines.append([*tune, f"run_dir={root / 'grid'}", "finetune.base_lrs=[1.0e+35,10]"])
    lines.append(["stage=embed", f"source={root / 'grid'}", f"run_dir={root / 'grid-embed'}"])
    lines.append([*tune, f"run_dir={root / 'all'}", "finetune.base_lrs=[1.0e+35,1.0e+34]"])
    lines.append(["stage=probe", "source=random", f"run_dir={root / 'random'}"])
    wide = ["stage=width", f"source={root / 'random'}", f"run_dir={root / 'wide'}"]
    lines.append([*wide, "width.average_rho=[50,1.0e+30]", "width.worst_rho=[1.0e+30]", "width.keskar_epsilon=1.0e+30"])
    full = [[*line, f"data.root={root / 'data'}", *SMALL, *OF_STAGE.get(line[0], ())] for line in lines]
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", RUN, json.dumps(full)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr  # a segmentation fault is -11
    statuses = {
        line[2 if line[2].startswith("run_dir") else 3]: status
        for line, status in zip(full, json.loads(done.stdout), strict=True)
    }
    (root / "stderr").write_text(done.stderr)
    assert {place: status for place, status in statuses.items() if status} == {f"run_dir={root / 'all'}": 1}, (
        done.stderr
    )
    return root


def result(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "result.json").read_text(), parse_constant=pytest.fail)
    return content


def rows(run: Path) -> dict[str, dict[str, Any]]:
    """The rows by evaluation, metric and the values of their dimensions, e.g. `width width keskar network False`."""
    found = {
        " ".join(map(str, (row["evaluation"], row["metric"], *(row[name] for name in DIMENSIONS if name in row)))): row
        for row in result(run)["rows"]
    }
    assert len(found) == len(result(run)["rows"])
    assert all((row["value"] is None) == bool(row.get("reason")) for row in found.values())
    return found


def test_a_collapsed_model_has_accuracies_but_no_tsne_map(study: Path) -> None:
    probe = rows(study / "collapsed-probe")
    assert probe["test accuracy"]["value"] == pytest.approx(0.1)  # the same one of ten classes for every image
    embed = rows(study / "collapsed-embed")
    assert embed["knn accuracy"]["value"] is not None
    assert "all embeddings are equal" in embed["tsne map"]["reason"]
    assert rows(study / "collapsed-width")["width loss"]["value"] == pytest.approx(np.log(10), rel=0.02)


def test_each_value_of_a_diverged_model_is_missing_with_a_reason(study: Path) -> None:
    probe = rows(study / "nan-probe")
    assert all(row["value"] is None for row in probe.values())
    assert "20 of 20 images are not finite" in probe["test accuracy"]["reason"]
    assert "40 of 40 images are not finite" in probe["validation l2"]["reason"]
    assert set(rows(study / "nan-ood")) >= {"ood accuracy", "ood accuracy_shared", "ood accuracy_masked", "ood ece"}
    assert not (study / "nan-ood" / "contact_sheet.png").exists()  # because data.contact_sheet=false
    for stage in ("ood", "embed", "width"):
        assert all(row["value"] is None for row in rows(study / f"nan-{stage}").values())
    with np.load(study / "nan-width" / "landscape.npz") as landscape:
        assert landscape["plane"].shape == (3, 3)


def test_embeddings_beyond_the_range_of_float16_are_saved_and_mapped(study: Path) -> None:
    assert all(row["value"] is not None for name, row in rows(study / "huge-embed").items() if "knn" in name)
    with np.load(study / "huge-embed" / "embeddings.npz") as saved, np.load(study / "huge-embed" / "tsne.npz") as maps:
        assert np.isfinite(saved["train"]).all()
        assert np.abs(saved["train"]).max() > 1e20
        assert maps["train"].std() > 0


def test_one_diverged_candidate_does_not_fail_the_selection(study: Path) -> None:
    tried = result(study / "grid")["tried"]
    assert [entry["accuracy"] is None for entry in tried] == [True, False]
    assert tried[0]["reason"] == "it diverged"
    assert result(study / "grid")["chosen"] == tried[1]["phase"] and tried[1]["lr"] == 10
    assert rows(study / "grid-embed")["knn accuracy"]["n"] == 20
    assert "no candidate of the grid has a result" in (study / "stderr").read_text()


def test_a_radius_with_infinite_loss_affects_no_other_measure(study: Path) -> None:
    found = rows(study / "wide")
    missing = {name for name, row in found.items() if row["value"] is None}
    assert {f"width width {measure} network False" for measure in ("adaptive_average 1e+30", "keskar")} <= missing
    assert all("is not finite" in found[name]["reason"] for name in missing if "network" in name and "e+30" in name)
    measured = ("loss", *(f"width {measure} network False" for measure in ("hessian_trace", "adaptive_average 50.0")))
    assert all(found[f"width {name}"]["value"] is not None for name in measured)
