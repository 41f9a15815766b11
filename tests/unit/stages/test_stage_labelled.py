"""Labelled trainings and their search, with an encoder of one layer."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from ssl_pkg.augment.views import resize
from ssl_pkg.config.compose import load_config
from ssl_pkg.data.images import Split
from ssl_pkg.errors import Diverged, Interrupted
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.methods.supervised import Supervised
from ssl_pkg.run.directory import CLOCK_FIELDS, RunDirectory
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.labelled import Candidate, Labelled, LabelledTrainings, Trial, best, grid_of

DATA: dict[str, Any] = {"name": "stand-in", "root": "-", "files": {}}
CPU = Hardware(torch.device("cpu"), torch.float32, threads=1, compiles=False)
PROBE = Candidate(1e-3, 0.05, jitter=False, head="probe")
RANDOM_HEAD = PROBE._replace(head="random")


def split(count: int, seed: int) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), np.uint8)
    return Split("train", pixels, np.arange(count) % 10)


@pytest.fixture
def start() -> Labelled:
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 512))
    head = {"weight": torch.randn(10, 512) / 20, "bias": torch.randn(10)}
    return Labelled(encoder, split(40, 0), 10, 32, head)


HELD = split(20, 1)


def session(folder: Path, flag: InterruptFlag | None = None, *more: str) -> Session:
    line = ["stage=finetune", "source=random", "budget=tiny", "data.root=synthetic", f"run_dir={folder}"]
    return Session(load_config([*line, "finetune.batch_size=8", *more]), CPU, flag or InterruptFlag(), DATA)


def trial(accuracy: float | None, loss: float | None, lr: float = 1e-3) -> Trial:
    candidate = PROBE._replace(lr=lr)._asdict()
    content: Any = {"phase": f"trial {lr}", **candidate, "accuracy": accuracy, "log_loss": loss, "n": 20}
    return content if accuracy is not None else {**content, "reason": "it diverged"}


def test_the_full_grid_has_every_combination_once() -> None:
    config = load_config(["stage=finetune", "source=random", "run_dir=-", "data.root=synthetic", "budget=full"])
    found = {(c.lr, c.weight_decay, c.jitter, c.head) for c in grid_of(config.finetune)}
    assert found == set(product((1e-3, 3e-4, 1e-4), (0.05, 0.5), (False, True), ("probe", "random")))
    assert len(grid_of(config.finetune)) == 24


def test_the_highest_accuracy_wins_and_of_equal_ones_the_smallest_log_loss() -> None:
    trials = [trial(None, None, 1.0), trial(0.5, 0.1, 2.0), trial(0.7, 0.9, 3.0), trial(0.7, 0.8, 4.0)]
    candidate, chosen = best(trials)
    assert candidate.lr == 4.0 and chosen is trials[3]
    with pytest.raises(Diverged, match=r"lr 1, weight decay 0.05, jitter off, probe head: it diverged"):
        best(trials[:1])


def test_a_training_starts_with_the_given_head_and_leaves_the_encoder_unchanged(
    start: Labelled, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in start.encoder.state_dict().items()}
    heads: list[Tensor] = []

    def keep(model: Supervised) -> None:
        heads.append(model.head.weight.detach().clone())

    with session(tmp_path / "run") as opened:
        trainings = LabelledTrainings(opened)
        for name, candidate in (("a", PROBE), ("b", RANDOM_HEAD), ("c", RANDOM_HEAD._replace(lr=1e-2))):
            model = trainings.train(name, start, candidate, epochs=1, on_start=keep)
            assert not torch.equal(model.head.weight, heads[-1])
    assert start.head is not None and torch.equal(heads[0], start.head["weight"])
    assert torch.equal(heads[1], heads[2]) and not torch.equal(heads[0], heads[1])
    assert all(torch.equal(value, before[name]) for name, value in start.encoder.state_dict().items())


def test_a_trial_has_the_result_of_its_training_on_the_holdout_split(start: Labelled, tmp_path: Path) -> None:
    with session(tmp_path / "run") as opened:
        trainings = LabelledTrainings(opened)
        found, again, jittered = trainings.search(start, HELD, [PROBE, PROBE, PROBE._replace(jitter=True)], epochs=2)
        model = trainings.train("final", start, PROBE, epochs=2).eval()
    with torch.no_grad():
        images = resize(torch.from_numpy(np.asarray(HELD.pixels)), 32)
        probabilities = model.head(model.encoder(images)).double().softmax(dim=1).numpy()
    assert found["accuracy"] == (probabilities.argmax(axis=1) == HELD.labels).mean()
    assert found["log_loss"] == pytest.approx(log_loss(HELD.labels, probabilities, labels=range(10)), rel=1e-6)
    assert again["log_loss"] == found["log_loss"] != jittered["log_loss"]
    lines = RunDirectory(tmp_path / "run").metrics()
    last = [line for line in lines if line["phase"] == "trial 1"][-1]
    assert (last["val_accuracy"], last["val_loss"]) == (found["accuracy"], found["log_loss"])


def test_a_candidate_without_a_result_does_not_stop_the_search(start: Labelled, tmp_path: Path) -> None:
    grid = [PROBE, RANDOM_HEAD._replace(lr=1e30), RANDOM_HEAD]
    with session(tmp_path / "run") as opened:
        trials = LabelledTrainings(opened).search(replace(start, head=None), HELD, grid, epochs=2)
    assert [entry.get("reason") for entry in trials] == ["no probe could be fitted", "it diverged", None]
    assert best(trials)[0] == RANDOM_HEAD


def work(folder: Path, start: Labelled, stop: tuple[str, int] | None = None) -> tuple[Any, dict[str, Tensor], int]:
    """A search and a final training. stop: the phase and the step at which a signal arrives.

    Returns the trials, the weights of the final model, and how often the first unit was computed.
    """
    flag, computed = InterruptFlag(), 0

    def compute() -> int:
        nonlocal computed
        computed += 1
        return 7

    with session(folder, flag, "log_every=1") as opened, pytest.MonkeyPatch.context() as patch:
        report = opened.report

        def reported(phase: str, step: int, steps: int) -> None:
            if (phase, step) == stop:
                flag.received = "SIGTERM"
            report(phase, step, steps)

        patch.setattr(opened, "report", reported)
        trainings = LabelledTrainings(opened)
        assert trainings.once("first", compute) == 7
        trials = trainings.search(start, HELD, [PROBE, RANDOM_HEAD], epochs=2)
        model = trainings.train("final", start, best(trials)[0], epochs=2)
    return trials, model.state_dict(), computed


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines = RunDirectory(folder).metrics()
    return [{name: value for name, value in line.items() if name not in CLOCK_FIELDS} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop",
    [("trial 1", 0), ("trial 1", 9), ("validate", 0), ("trial 2", 0), ("trial 2", 3), ("final", 0), ("final", 9)],
)
def test_an_interrupted_search_ends_as_an_uninterrupted_one(
    start: Labelled, tmp_path: Path, stop: tuple[str, int]
) -> None:
    trials, weights, _ = work(tmp_path / "whole", start)
    with pytest.raises(Interrupted):
        work(tmp_path / "run", start, stop)
    resumed, resumed_weights, computed = work(tmp_path / "run", start)
    assert computed == 0, "the finished unit was computed again"
    assert resumed == trials
    assert all(torch.equal(value, resumed_weights[name]) for name, value in weights.items())
    assert lines_of(tmp_path / "run") == lines_of(tmp_path / "whole")
    assert [line["step"] for line in lines_of(tmp_path / "run")] == list(range(1, 31))


def test_the_rate_rises_linearly_in_the_warm_up_and_then_falls_as_a_cosine(start: Labelled, tmp_path: Path) -> None:
    with session(tmp_path / "run", None, "finetune.warmup_epochs=1", "log_every=1") as opened:
        LabelledTrainings(opened).train("a", start, PROBE, epochs=3)
    falling = [0.5 * (1 + np.cos(np.pi * step / 10)) for step in range(10)]
    rates = [line["lr"] for line in RunDirectory(tmp_path / "run").metrics()]
    assert rates == pytest.approx([1e-3 * factor for factor in [0.2, 0.4, 0.6, 0.8, 1.0, *falling]])


@pytest.mark.slow
def test_epochs_of_given_steps_have_the_same_rates_for_any_number_of_images(start: Labelled, tmp_path: Path) -> None:
    def rates(count: int) -> list[float]:
        options = ("finetune.warmup_epochs=1", "log_every=1")
        with session(tmp_path / str(count), None, *options) as opened:
            images = replace(start, split=split(count, 0))
            LabelledTrainings(opened).train("a", images, PROBE, epochs=2, epoch_steps=4)
            LabelledTrainings(opened).search(images, HELD, [PROBE], epochs=2, epoch_steps=4, name="b")
        return [line["lr"] for line in RunDirectory(tmp_path / str(count)).metrics()]

    one, five, twenty = rates(8), rates(40), rates(160)  # by the steps in a pass
    assert len(one) == 16 and one == five == twenty


def test_views_have_the_crops_and_flips_of_the_settings_and_weights_decay(start: Labelled, tmp_path: Path) -> None:
    """With one batch of all images, the first loss is that of the views before any step."""

    def first_loss(name: str, *more: str) -> float:
        options = ("finetune.batch_size=40", "log_every=1", *more)
        with session(tmp_path / name, None, *options) as opened:
            LabelledTrainings(opened).train(name, start, PROBE, epochs=1)
        return float(RunDirectory(tmp_path / name).metrics()[0]["loss"])

    assert start.head is not None
    images = resize(torch.from_numpy(np.asarray(start.split.pixels)), 32)

    def loss_of(views: Tensor) -> float:
        logits = start.encoder(views) @ start.head["weight"].T + start.head["bias"]
        return nn.functional.cross_entropy(logits, torch.from_numpy(start.split.labels)).item()

    whole = ("finetune.crop_area=[1.0,1.0]",)
    assert first_loss("plain", *whole, "finetune.flip=0") == pytest.approx(loss_of(images), rel=1e-5)
    assert first_loss("flipped", *whole, "finetune.flip=1") == pytest.approx(loss_of(images.flip(3)), rel=1e-5)
    assert first_loss("cropped", "finetune.flip=0") != pytest.approx(loss_of(images), rel=1e-3)
    with session(tmp_path / "decay") as opened:
        trainings = LabelledTrainings(opened)
        norms = [
            trainings.train(str(decay), start, PROBE._replace(weight_decay=decay), epochs=1).encoder[2].weight.norm()
            for decay in (0.0, 50.0)
        ]
    lr = [1e-3 * 0.5 * (1 + np.cos(np.pi * step / 5)) for step in range(5)]
    assert (norms[1] / norms[0]).item() == pytest.approx(np.prod([1 - 50 * rate for rate in lr]), rel=0.02)


def test_a_split_with_fewer_images_than_a_batch_is_one_batch(start: Labelled, tmp_path: Path) -> None:
    losses = []
    for name, size in (("all", 40), ("more", 64)):
        with session(tmp_path / name, None, f"finetune.batch_size={size}", "log_every=1") as opened:
            LabelledTrainings(opened).train("a", start, PROBE, epochs=3)
        losses.append([line["loss"] for line in RunDirectory(tmp_path / name).metrics()])
    assert losses[0] == losses[1] and len(losses[0]) == 3
