import os
from pathlib import Path

import pytest

from analysis.forked import in_a_fork


def test_the_task_runs_in_another_process_at_the_same_time(tmp_path: Path) -> None:
    reader, writer = os.pipe()

    def task() -> None:
        assert os.read(reader, 1) == b"x"  # what the code inside the context has written
        (tmp_path / "pid").write_text(str(os.getpid()))

    with in_a_fork(task):
        os.write(writer, b"x")
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_an_error_of_the_task_is_raised_here_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def task() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), in_a_fork(task):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_killed_fork_is_replaced(tmp_path: Path) -> None:
    parent = os.getpid()

    def task() -> None:
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        (tmp_path / "done").touch()

    with in_a_fork(task):
        pass
    assert (tmp_path / "done").exists()


def test_an_error_in_the_context_ends_the_fork(tmp_path: Path) -> None:
    reader, writer = os.pipe()

    def task() -> None:
        os.close(writer)
        os.read(reader, 1)  # never returns
        (tmp_path / "done").touch()

    with pytest.raises(KeyboardInterrupt), in_a_fork(task):
        raise KeyboardInterrupt
    assert not (tmp_path / "done").exists()
