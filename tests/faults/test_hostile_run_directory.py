"""Damaged and forged files in a run directory: refused in one sentence, or the run ends as if they had been whole."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import start
from hostile import JSON, cases, damaged
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from trainers import LONG, Study, differences, exists_within

from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT
from ssl_pkg.run.checkpoint import load_checkpoint, save_checkpoint
from ssl_pkg.run.directory import RunDirectory

LINE = {"step": 3, "epoch": 0.75, "phase": "train", "seconds": 1.5, "lr": 0.1, "loss": 4.25}
NESTED = ["[" * 3000, '{"a":' * 3000, "- " * 3000]
ODD_YAML = [
    "2001-99-99",
    "!!int ''",
    "!!float ''",
    "!!bool x",
    "!!timestamp x",
    "{[a]: b}",
    "!!python/name:os.system",
    "\x00",
]


@cases(long=500, short=60)
@given(content=st.one_of(
    st.binary(max_size=60), JSON.map(json.dumps).map(str.encode), st.text(max_size=60).map(str.encode),
    st.sampled_from([*NESTED, *ODD_YAML]).map(str.encode), damaged(json.dumps(LINE).encode()),
    st.integers(4000, 6000).map(lambda digits: b'{"step": ' + b"9" * digits + b"}"),
))  # fmt: skip
def test_readers_return_the_content_or_nothing_for_any_bytes(folder: Path, content: bytes) -> None:
    for name in ("result.json", "status", "metrics.jsonl", "config.yaml", "provenance.json"):
        (folder / name).write_bytes(content)
    run = RunDirectory(folder)
    try:
        there = json.loads(content)
    except (ValueError, RecursionError):
        there = None
    for found in (run.result(), run.status(), run.provenance()):
        assert found is None if not isinstance(there, dict) else same(found, there)
    assert run.config() is None or isinstance(run.config(), dict)
    assert all(isinstance(line["step"], int) for line in run.metrics())


def same(one: object, other: object) -> bool:
    return repr(one) == repr(other)  # because nan differs from itself


@cases(long=300, short=40)
@given(chance=st.data())
def test_only_the_damaged_metric_line_is_left_out(folder: Path, chance: st.DataObject) -> None:
    lines = [json.dumps(LINE | {"step": step}).encode() for step in range(1, 6)]
    at = chance.draw(st.integers(0, 4))
    broken = chance.draw(damaged(lines[at]).filter(lambda line: b"\n" not in line and b"\r" not in line))
    (folder / "metrics.jsonl").write_bytes(b"\n".join([*lines[:at], broken, *lines[at + 1 :]]) + b"\n")
    found = RunDirectory(folder).metrics()
    rest = [line for line in found if line not in (json.loads(lines[i]) for i in range(5) if i != at)]
    assert len(found) - len(rest) >= 4
    assert len(rest) <= 1


TENSOR = torch.arange(1000, dtype=torch.float32)


@cases(long=400, short=60)
@given(chance=st.data())
def test_a_damaged_checkpoint_is_never_loaded(folder: Path, chance: st.DataObject) -> None:
    checkpoints = folder / "checkpoints"
    shutil.rmtree(checkpoints, ignore_errors=True)
    files = [save_checkpoint(checkpoints, step, {"step": step, "model": {"w": TENSOR * step}}) for step in (1, 2)]
    intact = {1, 2}
    for step in chance.draw(st.sampled_from(([2], [1], [1, 2]))):
        content = files[step - 1].read_bytes()
        changed = chance.draw(damaged(content))
        files[step - 1].write_bytes(changed)
        if changed != content:
            intact.remove(step)
    state = load_checkpoint(checkpoints)
    assert (state is None) == (not intact)
    if state is not None:
        assert state["step"] == max(intact)
        assert torch.equal(state["model"]["w"], TENSOR * max(intact))


@pytest.fixture(scope="module")
def unfinished(study: Study, root: Path) -> Path:
    """A run without result.json whose process was killed."""
    run_dir = root / "unfinished"
    shutil.copytree(study.uninterrupted("simclr"), run_dir)
    (run_dir / "result.json").unlink()
    (trainer,) = start(study.line("simclr", run_dir))
    assert exists_within(60, run_dir / "lock", trainer)
    trainer.send(signal.SIGKILL)
    trainer.status()
    return run_dir


def resume(study: Study, unfinished: Path, folder: Path, change: Callable[[Path], None]) -> None:
    """Resumes a changed copy of the unfinished run, which must end correctly or with one sentence."""
    run_dir = folder / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    shutil.copytree(unfinished, run_dir)
    change(run_dir)
    (trainer,) = start(study.line("simclr", run_dir))
    status, stderr = trainer.status(30), trainer.stderr()
    assert "Traceback" not in stderr
    if status == COMPLETE:
        found = differences(study.uninterrupted("simclr"), run_dir)
        assert [
            name for name in found if not name.startswith("checkpoint")
        ] == []  # no step was left, so no checkpoint was written
    else:
        last = stderr.splitlines()[-1]
        assert last.startswith("ssl_pkg: ")
        assert status == (FAULT if "is in use by" in last else BAD_INPUT)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["config.yaml", "status", "provenance.json", "result.json", "metrics.jsonl", "lock"])
@settings(cases(long=20, short=1), phases=[Phase.generate])
@given(chance=st.data())
def test_a_run_with_a_damaged_file_ends_with_the_same_bits_or_is_refused(
    study: Study, unfinished: Path, folder: Path, name: str, chance: st.DataObject
) -> None:
    file = unfinished / name
    content = file.read_bytes() if file.exists() else b'{"stage": "pretrain"'
    changed = chance.draw(damaged(content) | JSON.map(json.dumps).map(str.encode))

    def change(run_dir: Path) -> None:
        (run_dir / name).write_bytes(changed)
        os.utime(run_dir / name, (0, 0))  # old enough that its writer counts as dead
        assume(RunDirectory(run_dir).result() is None)  # otherwise the run is complete

    resume(study, unfinished, folder, change)


FIELDS = (
    "phase",
    "step",
    "model",
    "optimizer",
    "scaler",
    "averager",
    "log_pending",
    "metrics_step",
    "seconds",
    "extra_state",
)
FOREIGN = {"nothing": None, "a text": "x", "a list": [1], "a mapping": {"a": 1}, "a tensor": TENSOR}
FORGERIES = [(field, kind) for field in FIELDS for kind in ("missing", *FOREIGN)]


@pytest.mark.parametrize(("field", "kind"), FORGERIES if LONG else FORGERIES[::11])
def test_a_checkpoint_with_a_forged_field_is_refused_or_has_no_effect(
    study: Study, unfinished: Path, folder: Path, field: str, kind: str
) -> None:
    def forge(run_dir: Path) -> None:
        state = load_checkpoint(run_dir / "checkpoints") or {}
        del state[field]
        if kind != "missing":
            state[field] = FOREIGN[kind]
        save_checkpoint(run_dir / "checkpoints", 9, state)

    resume(study, unfinished, folder, forge)


@pytest.mark.parametrize("kind", ["missing", "another shape", "a text"] if LONG else ["another shape"])
def test_a_checkpoint_of_another_network_is_refused(study: Study, unfinished: Path, folder: Path, kind: str) -> None:
    def forge(run_dir: Path) -> None:
        state = load_checkpoint(run_dir / "checkpoints") or {}
        name = next(iter(state["model"]))
        weight = state["model"].pop(name)
        if kind != "missing":
            state["model"][name] = weight[:1] if kind == "another shape" else "x"
        save_checkpoint(run_dir / "checkpoints", 9, state)

    resume(study, unfinished, folder, forge)
    assert not (folder / "run/result.json").exists()
