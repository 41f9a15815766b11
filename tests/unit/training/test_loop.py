"""The training loop on a network of four numbers, with interruptions and infinite losses at every place."""

import errno
import re
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import small_training
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_training import EPOCH, STEPS, Line, Stop, assert_equal, left, train
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_pkg.errors import BadInput, Interrupted
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.run import resume
from ssl_pkg.run.checkpoint import CheckpointWriter, load_checkpoint, save_checkpoint
from ssl_pkg.run.session import Session
from ssl_pkg.training import loop


def test_a_loaded_checkpoint_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, Stop(after=5))
    read: list[weakref.ref[Tensor]] = []
    kept: list[bool] = []

    def load(*arguments: Any) -> dict[str, Any] | None:
        state = load_checkpoint(*arguments)
        assert state is not None
        read.extend(weakref.ref(tensor) for tensor in state["model"].values())
        return state

    monkeypatch.setattr(resume, "load_checkpoint", load)
    monkeypatch.setattr(
        Line, "after_step", lambda self, step, steps: kept.append(any(ref() is not None for ref in read))
    )
    train(tmp_path)
    assert len(read) == 3 and kept == [False] * (STEPS - 6)


@pytest.mark.parametrize("state", [{}, {"a": 1}, {"state": {}, "param_groups": []}])
def test_a_foreign_optimizer_state_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, Stop(after=5))
    checkpoint = load_checkpoint(tmp_path / "checkpoints") or {}
    save_checkpoint(tmp_path / "checkpoints", 99, checkpoint | {"optimizer": state})
    with pytest.raises(BadInput, match="holds a checkpoint of another run"):
        train(tmp_path)


def test_only_the_checkpoint_of_the_last_step_lacks_the_optimizers_state(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, Stop(after=STEPS - 2))
    assert left(tmp_path)[1]["optimizer"]["state"]
    with pytest.raises(Interrupted):  # in the last step: the resumed run only logs its line
        train(tmp_path, Stop(within=STEPS // EPOCH))
    checkpoint = left(tmp_path)[1]
    assert (checkpoint["step"], checkpoint["optimizer"], checkpoint["log_pending"]) == (STEPS, {}, True)
    train(tmp_path)
    train(tmp_path / "whole")
    assert_equal(left(tmp_path), left(tmp_path / "whole"))


class Reads(TorchDispatchMode):
    """Records the steps in which a tensor's value was read, which would synchronise with a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.steps = -1, set[int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.steps.add(self.step)
        return function(*args, **(kwargs or {}))


@pytest.mark.usefixtures("punctual")
def test_values_are_read_only_when_a_line_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, average = Reads(), Line.after_step

    def after_step(self: Line, step: int, steps: int) -> None:
        average(self, step, steps)
        reads.step = step

    monkeypatch.setattr(Line, "after_step", after_step)
    with reads:
        train(tmp_path)
    assert {step + 1 for step in reads.steps} == {3, 4, 6, 8, 9, 12}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder)
    return left(folder)


def test_a_line_has_the_mean_loss_since_the_line_before(
    whole: tuple[list[dict[str, Any]], dict[str, Any]],
) -> None:
    """Compared with the same training without the loop."""
    model, losses = Line(None), list[float]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        loss, _ = model.loss([x], torch.zeros(5))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.after_step(step, STEPS)
        losses.append(loss.item())
    before = 0
    for line in whole[0]:
        done = line["step"]
        assert line["loss"] == pytest.approx(sum(losses[before:done]) / (done - before), rel=1e-6)
        assert (line["epoch"], line["lr"], line["phase"]) == (done / EPOCH, 0.1 / done, "train")
        assert ("validation" in line) == (done % EPOCH == 0)
        before = done
    assert before == STEPS
    assert_equal(whole[1]["model"], dict(model.state_dict()))


def test_the_scale_of_float16_gradients_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = Hardware(torch.device("cpu"), torch.float16, threads=1, compiles=False)
    monkeypatch.setattr(small_training, "CPU", half)
    train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "broken", Stop(after=5))
    assert left(tmp_path / "broken")[1]["scaler"]["scale"] < half.scaler().get_scale()  # after infinite gradients
    train(tmp_path / "broken")
    assert_equal(left(tmp_path / "broken"), left(tmp_path / "whole"))


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stops=st.lists(
        st.integers(0, STEPS - 1).map(lambda step: Stop(after=step))
        | st.integers(1, STEPS // EPOCH).map(lambda epoch: Stop(within=epoch)),
        min_size=1,
        max_size=4,
    )
)
def test_signals_in_any_step_or_validation_do_not_change_the_result(
    tmp_path_factory: pytest.TempPathFactory,
    whole: tuple[list[dict[str, Any]], dict[str, Any]],
    stops: list[Stop],
) -> None:
    folder = tmp_path_factory.mktemp("broken") / "run"
    for stop in stops:
        try:
            train(folder, stop)
        except Interrupted:
            continue
    train(folder)
    assert_equal(left(folder), whole)


def test_a_signal_in_a_validation_stops_it_and_its_line_is_written_once(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path / "run", Stop(within=1))
    assert [line["step"] for line in left(tmp_path / "run")[0]] == [3]
    train(tmp_path / "run")
    assert [line["step"] for line in left(tmp_path / "run")[0]] == [3, 4, 6, 8, 9, 12]


def test_the_line_after_the_checkpoint_of_an_interrupted_validation_is_written_once(
    tmp_path: Path, whole: tuple[list[dict[str, Any]], dict[str, Any]]
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path / "run", Stop(within=1), epochs=10)
    with pytest.raises(RuntimeError, match="a crash"):
        train(tmp_path / "run", Stop(crash=5), epochs=10)
    assert [line["step"] for line in left(tmp_path / "run")[0]] == [3, 4]
    train(tmp_path / "run", epochs=10)
    assert_equal(left(tmp_path / "run"), whole)


@pytest.fixture
def punctual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each checkpoint is saved when it is due, although an earlier one is still being written."""
    monkeypatch.setattr(CheckpointWriter, "busy", False)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps after which a checkpoint is saved, when a step takes four minutes."""
    clock, steps, save, average = SimpleNamespace(minutes=0.0), list[int](), Session.save, Line.after_step

    def after_step(self: Line, step: int, steps: int) -> None:
        average(self, step, steps)
        clock.minutes += 4

    def recorded(self: Session, metrics_step: int, state: dict[str, Any]) -> None:
        steps.append(state["step"])
        save(self, metrics_step, state)

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 60 * clock.minutes))
    monkeypatch.setattr(Line, "after_step", after_step)
    monkeypatch.setattr(Session, "save", recorded)
    return steps


@pytest.mark.usefixtures("punctual")
def test_a_checkpoint_is_due_after_its_minutes(tmp_path: Path, saved: list[int]) -> None:
    train(tmp_path, epochs=10)
    assert saved == [3, 6, 9, 12]  # the limit is ten minutes


def test_a_checkpoint_that_is_due_waits_for_the_one_being_written(
    tmp_path: Path, saved: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, True] + [False] * STEPS)  # asked only when a checkpoint is due
    monkeypatch.setattr(CheckpointWriter, "busy", property(lambda writer: next(answers)))
    monkeypatch.setattr(loop, "time", time)
    train(tmp_path, epochs=1)
    assert saved == [6, 8, 12]  # due after each epoch of four steps


@pytest.mark.parametrize("bad", [0, 4, 5, 11])
def test_a_loss_that_is_not_finite_names_its_step_and_images(punctual: None, tmp_path: Path, bad: int) -> None:
    images = str((np.arange(5) + bad).tolist())
    with pytest.raises(ArithmeticError) as caught:
        train(tmp_path / "run", bad=bad)
    assert f"at step {bad + 1} of train, on images {images}" in str(caught.value)
    names_the_last_good_checkpoint(tmp_path / "run", str(caught.value), bad)


def names_the_last_good_checkpoint(folder: Path, said: str, bad: int) -> None:
    checkpoint = load_checkpoint(folder / "checkpoints")
    if bad < EPOCH:
        assert checkpoint is None
        assert said.endswith("there is no checkpoint yet")
    else:
        assert checkpoint is not None
        assert checkpoint["step"] == bad // EPOCH * EPOCH
        assert all(tensor.isfinite().all() for tensor in checkpoint["model"].values())
        path = folder / "checkpoints" / f"step-{checkpoint['step']:09d}.ckpt"
        assert said.endswith(f"the last good checkpoint is {path}")


@pytest.mark.parametrize("broken", [3, 7, 11])
def test_infinite_weights_are_not_saved(punctual: None, tmp_path: Path, broken: int) -> None:
    with pytest.raises(ArithmeticError, match=f"weights stopped being finite by step {broken + 1} of train") as caught:
        train(tmp_path / "run", broken=broken)
    names_the_last_good_checkpoint(tmp_path / "run", str(caught.value), broken)


def test_a_damaged_file_is_not_the_last_good_checkpoint(punctual: None, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path / "run", Stop(after=8))
    (tmp_path / "run/checkpoints/step-000000009.ckpt").write_bytes(b"damaged")
    with pytest.raises(ArithmeticError, match=r"the last good checkpoint is .*/step-000000008\.ckpt$"):
        train(tmp_path / "run", bad=9)


@pytest.mark.parametrize("before", [None, 2])
def test_an_interruption_without_space_for_its_checkpoint_raises_the_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int | None
) -> None:
    if before is not None:
        with pytest.raises(Interrupted):
            train(tmp_path / "run", Stop(after=before - 1))

    def full(path: Path, *parts: bytes, verify: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device"):
        patch.setattr("ssl_pkg.run.checkpoint.write_atomic", full)
        train(tmp_path / "run", Stop(after=2))
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert before == (checkpoint["step"] if checkpoint else None)


@pytest.mark.slow
def test_the_reported_wait_for_a_checkpoint_is_complete(
    punctual: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssl_pkg.run.metrics_log.MetricsLog.sync", lambda log: time.sleep(0.3))
    train(tmp_path / "run")
    waits = [float(wait) for wait in re.findall(r"the run waited ([0-9.]+) s", capsys.readouterr().err)]
    assert len(waits) == STEPS // EPOCH
    assert min(waits) >= 0.3


def test_no_checkpoint_is_saved_after_an_infinite_loss(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        train(tmp_path / "run", Stop(after=2), bad=2)
    assert load_checkpoint(tmp_path / "run" / "checkpoints") is None
