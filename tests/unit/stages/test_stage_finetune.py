"""The initial heads and the snapshots of a fine-tuning."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssl_pkg.augment.views import resize
from ssl_pkg.config.compose import load_config
from ssl_pkg.data.images import Split, holdout
from ssl_pkg.evaluation.probe import fit_head, fit_probe
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.methods.supervised import Supervised
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.finetune import _heads, _notes, _Snapshots

CPU = Hardware(torch.device("cpu"), torch.float32, threads=1, compiles=False)
LABELS = np.arange(60) % 10
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), np.uint8)
TRAIN = Split("train", PIXELS, LABELS)


def session(folder: Path, *more: str) -> Session:
    line = ["stage=finetune", "source=random", "budget=tiny", "data.root=synthetic", f"run_dir={folder}", *more]
    data: dict[str, Any] = {"name": "stand-in", "root": "-", "files": {}}
    return Session(load_config(line), CPU, InterruptFlag(), data)


def small_encoder() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 512))


@pytest.mark.slow
def test_a_trial_starts_with_a_probe_that_was_fitted_without_the_held_out_images(tmp_path: Path) -> None:
    encoder, (kept, _) = small_encoder(), holdout(LABELS, 0.2)
    with session(tmp_path / "run") as opened:
        heads = _heads(opened, encoder, TRAIN, 32, kept)
        none = _heads(session(tmp_path / "other", "finetune.heads=[random]"), encoder, TRAIN, 32, kept)
        l2 = fit_probe(features(encoder), LABELS, opened.config.probe, lambda done, total: None).l2
    assert none == {"kept": None, "all": None}
    for name, part in (("kept", kept), ("all", np.arange(60))):
        head: Any = heads[name]  # type: ignore[literal-required]
        fitted = fit_head(features(encoder)[part], LABELS[part], l2)
        np.testing.assert_allclose(head["weight"], fitted.weight, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(head["bias"], fitted.bias, rtol=1e-4, atol=1e-5)


def test_snapshots_are_the_embeddings_after_the_chosen_epochs(tmp_path: Path) -> None:
    model = Supervised(small_encoder(), 10)
    with session(tmp_path / "run", "finetune.epochs=4", "finetune.snapshots=3") as opened:
        snapshots = _Snapshots(opened, TRAIN, 32)
        expected = []
        for epoch in range(5):
            if epoch % 2 == 0:
                expected.append(features(model.encoder)[:50])
            assert snapshots.save_if_chosen(model, epoch) == {}
            model.encoder[2].weight.data.mul_(1.5)
        snapshots.write_embeddings(steps_per_epoch=7)
        snapshots.remove()
        assert not opened.file("snapshots").exists()
    with np.load(tmp_path / "run/embeddings.npz") as found:
        assert found["steps"].tolist() == [0, 14, 28]
        assert found["labels"].tolist() == LABELS[:50].tolist()  # finetune.snapshot_images, as many of each class
        np.testing.assert_allclose(found["frames"], np.stack(expected), atol=2e-3)  # saved in float16


@torch.no_grad()
def features(encoder: nn.Module) -> np.ndarray:
    found: np.ndarray = encoder(resize(torch.from_numpy(PIXELS), 32)).numpy()
    return found


def test_the_result_says_which_batches_are_smaller_than_the_settings() -> None:
    settings = load_config(["stage=finetune", "source=random", "run_dir=-", "data.root=synthetic"]).finetune
    kept = Split("kept", PIXELS[:48], LABELS[:48])
    assert _notes(settings.model_copy(update={"batch_size": 48}), kept, TRAIN) == []
    assert _notes(settings.model_copy(update={"batch_size": 50}), kept, TRAIN) == [
        "the batches of kept have 48 images, not finetune.batch_size=50, because it has no more"
    ]
    assert len(_notes(settings, kept, TRAIN)) == 2  # 64
