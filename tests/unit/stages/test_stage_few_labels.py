"""Few labels: which images a candidate is trained on and measured on."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssl_pkg.config.compose import load_config
from ssl_pkg.data.images import Split, holdout
from ssl_pkg.evaluation.probe import fit_head
from ssl_pkg.stages.few_labels import _left_out, _Stage, _Subset, _subsets
from ssl_pkg.stages.labelled import Candidate, Labelled, Trial

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 12))
FEATURES = np.random.default_rng(1).normal(size=(120, 8)).astype(np.float32)
SUBSET = _Subset({"labels_per_class": 5, "draw": 1}, np.sort(np.random.default_rng(2).choice(120, 100, replace=False)))
L2 = 0.1


def stage(search: Any, *more: str) -> _Stage:
    line = ["stage=few_labels", "source=random", "run_dir=-", "data.root=synthetic", "budget=tiny", *more]
    pixels = np.arange(120, dtype=np.uint8)[:, None, None, None].repeat(3, axis=1)  # each image shows its index
    parts: list[Any] = [
        SimpleNamespace(config=load_config(line)),
        SimpleNamespace(search=search),
        SimpleNamespace(train=Split("train", pixels, LABELS), classes=tuple("abcdefghij")),
        None,
    ]
    return _Stage(*parts, encoder=nn.Identity(), resolution=32)


def probe(head: bool = True) -> Any:
    return {"model": None, "head": {"weight": torch.zeros(10, 8), "bias": torch.zeros(10)} if head else None, "l2": L2}


def test_candidates_and_their_heads_do_not_see_the_images_on_which_they_are_measured() -> None:
    seen: list[tuple[Labelled, Split]] = []

    def search(
        start: Labelled, held: Split, grid: Sequence[Candidate], *, epochs: int, epoch_steps: int, name: str
    ) -> list[Trial]:
        seen.append((start, held))
        assert name == "trial 5 labels, draw 1,"
        assert (epochs, epoch_steps, len(start.split)) == (2, 20, 2 * 80)  # 80 images twice, for epochs of 20 steps
        entry: Any = {"accuracy": 0.5, "log_loss": 1.0, "phase": "-", "n": len(held)}
        return [{**entry, **candidate._asdict(), "log_loss": float(len(grid) - k)} for k, candidate in enumerate(grid)]

    chosen = stage(search, "finetune.batch_size=8", "few_labels.steps=30").candidate(SUBSET, FEATURES, probe())
    assert chosen == Candidate(1e-3, 0.05, jitter=False, head="random")  # the last one, with the smallest loss
    ((start, held),) = seen
    kept, held_out = (SUBSET.indices[part] for part in holdout(LABELS[SUBSET.indices], 0.2))
    assert np.array_equal(held.pixels[:, 0, 0, 0], held_out)
    assert set(start.split.pixels[:, 0, 0, 0].tolist()) == set(kept.tolist())
    fitted = fit_head(FEATURES[kept], LABELS[kept], L2)
    assert start.head is not None
    assert np.array_equal(start.head["weight"], fitted.weight)
    assert np.array_equal(start.head["bias"], fitted.bias)


def test_a_single_candidate_is_not_searched_and_without_a_probe_no_candidate_starts_with_its_head() -> None:
    def search(*_: Any, **__: Any) -> list[Trial]:
        pytest.fail("there is nothing to choose")

    chosen = stage(search).candidate(SUBSET, FEATURES, probe(head=False))
    assert chosen == Candidate(1e-3, 0.05, jitter=False, head="random")
    assert stage(search, "few_labels.heads=[probe]").candidate(SUBSET, FEATURES, probe(head=False)) is None


def test_sizes_above_the_smallest_class_are_left_out_and_all_of_it_is_drawn_once() -> None:
    labels = np.repeat([0, 1, 2], [12, 15, 30])
    found = [(str(subset), len(subset.indices)) for subset in _subsets(labels, (2, 12, 13), 3)]
    assert found[:3] == [(f"2 labels, draw {draw}", 6) for draw in range(3)]
    assert found[3:] == [("12 labels, draw 0", 36)]
    assert _left_out(labels, (2, 12, 13, 20)) == [
        "few_labels.labels_per_class=13,20 is left out, because the smallest class of train has 12 images"
    ]
    assert _left_out(labels, (2, 12)) == []


def test_a_train_split_below_all_sizes_gives_one_size_with_all_images_of_its_smallest_class() -> None:
    labels = np.repeat([0, 1], [12, 15])
    assert [(str(subset), len(subset.indices)) for subset in _subsets(labels, (13, 20), 3)] == [
        ("12 labels, draw 0", 24)
    ]
