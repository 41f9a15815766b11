import errno
import os
import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.run.checkpoint import CheckpointWriter, load_checkpoint, save_checkpoint


def state(step: int) -> dict[str, object]:
    return {"step": step, "model": {"weight": torch.arange(5.0) * step}, "extra_state": {"trials": {"a": 0.5}}}


def test_the_newest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        save_checkpoint(tmp_path / "checkpoints", step, state(step))
    loaded = load_checkpoint(tmp_path / "checkpoints")
    assert loaded is not None
    assert loaded["step"] == 10
    assert torch.equal(loaded["model"]["weight"], torch.arange(5.0) * 10)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in range(5):
        save_checkpoint(tmp_path, step, state(step))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step-000000003.ckpt", "step-000000004.ckpt"]


def test_checkpoints_of_a_process_that_takes_the_run_over_are_not_deleted(tmp_path: Path) -> None:
    """A process that is suspended right after it has written its checkpoint still has to delete old ones."""
    successors = [tmp_path / f"step-{step:09d}.ckpt" for step in (7, 8)]

    def taken_over_afterwards() -> None:
        for file in successors:
            file.write_bytes(b"of another process")

    for step in (2, 3):
        save_checkpoint(tmp_path, step, state(step))
    save_checkpoint(tmp_path, 4, state(4), verify=taken_over_afterwards)
    assert [int(file.stem.partition("-")[2]) for file in sorted(tmp_path.iterdir())] == [3, 4, 7, 8]


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_the_newest_falls_back_to_the_one_before(tmp_path: Path, data: st.DataObject) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state(step))
    newest = tmp_path / "step-000000002.ckpt"
    content = bytearray(newest.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    newest.write_bytes(content)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1


def test_a_skipped_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path, 1, state(1)).write_bytes(b"half")
    assert load_checkpoint(tmp_path) is None
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.EIO, OSError, "Input/output error: .*step-000000003.ckpt"),  # a fault of the machine
        (errno.ESTALE, OSError, "Stale file handle: .*step-000000003.ckpt"),
        (errno.EACCES, BadInput, "can't read .*step-000000003.ckpt: Permission denied"),
    ],
)
def test_a_read_error_does_not_count_as_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], message: str
) -> None:
    """Otherwise the run would start again and delete its own intact checkpoints."""
    save_checkpoint(tmp_path, 3, state(3))

    def fail(path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as changed:
        changed.setattr(Path, "read_bytes", fail)
        with pytest.raises(error, match=message):
            load_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path) is not None


def test_a_checkpoint_can_not_run_code(tmp_path: Path) -> None:
    import hashlib

    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (marker,)

    payload = pickle.dumps(Attack())
    header = b"ssl-checkpoint " + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    (tmp_path / "step-000000001.ckpt").write_bytes(header + payload)
    assert load_checkpoint(tmp_path) is None
    assert not marker.exists()


def test_a_half_written_temporary_file_is_ignored(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(1))
    (tmp_path / ".step-000000002.ckpt.abc.tmp").write_bytes(b"half")
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1


def test_the_writer_saves_the_state_at_the_time_of_the_call(tmp_path: Path) -> None:
    messages: list[str] = []
    writer = CheckpointWriter(tmp_path, lambda: None, messages.append)
    changing: dict[str, Any] = {"step": 1, "weight": torch.zeros(1000), "extra_state": {"trials": {"a": 1}}}
    began = time.monotonic() - 0.5
    writer.save(1, changing, began)
    longest = time.monotonic() - began
    changing["weight"].fill_(7)
    changing["extra_state"]["trials"]["b"] = 2
    writer.wait()
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded["weight"], torch.zeros(1000))
    assert loaded["extra_state"] == {"trials": {"a": 1}}
    waited = re.fullmatch(r"checkpoint of step 1: 0 MB in [0-9.]+ s, the run waited ([0-9.]+) s", messages[0])
    assert waited and 0.5 <= float(waited[1]) <= longest + 0.005  # rounded


def test_a_full_disk_is_reported_and_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    writer = CheckpointWriter(tmp_path, lambda: None, messages.append)
    writer.save(1, state(1), time.monotonic())
    writer.wait()

    def full(path: Path, *parts: bytes, verify: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ssl_pkg.run.checkpoint.write_atomic", full)
        writer.save(2, state(2), time.monotonic())
        failure = writer.wait()
    assert isinstance(failure, OSError)
    assert failure.errno == errno.ENOSPC
    assert "no checkpoint of step 2 (No space left on device)" in messages[1]
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1


def test_a_writer_without_the_lock_raises_and_writes_nothing(tmp_path: Path) -> None:
    def refuse() -> None:
        raise Busy("taken over")

    writer = CheckpointWriter(tmp_path, refuse, print)
    writer.save(1, state(1), time.monotonic())
    with pytest.raises(Busy):
        writer.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_loses_the_lock_adds_and_deletes_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, state(1))
    calls: list[str] = []

    def lose_lock() -> None:
        calls.append("call")
        if len(calls) > 1:
            raise Busy("taken over")
        for step in (3, 4):  # the new holder's
            save_checkpoint(tmp_path, step, state(step))

    writer = CheckpointWriter(tmp_path, lose_lock, print)
    writer.save(2, state(2), time.monotonic())
    with pytest.raises(Busy):
        writer.wait()
    assert {file.name for file in tmp_path.iterdir()} == {f"step-{step:09d}.ckpt" for step in (3, 4)}


def test_the_newest_accepted_file_is_taken_or_else_the_newest_intact_one(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, state(step))
    for wanted, taken in ((2, 2), (1, 1), (3, 2)):
        loaded = load_checkpoint(tmp_path, lambda found, wanted=wanted: found["step"] == wanted)
        assert loaded is not None
        assert loaded["step"] == taken


def test_damaged_files_of_later_steps_are_removed_by_the_next_save(tmp_path: Path) -> None:
    for step in (8, 16):
        save_checkpoint(tmp_path, step, state(step)).write_bytes(b"damaged")
    save_checkpoint(tmp_path, 1, state(1))
    assert [file.name for file in tmp_path.iterdir()] == ["step-000000001.ckpt"]
