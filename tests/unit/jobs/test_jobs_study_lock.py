import threading
import time
from pathlib import Path

import pytest

from jobs.study_lock import study_lock
from ssl_pkg.errors import BadInput


def test_nobody_waits_for_a_study_that_runs_here(tmp_path: Path) -> None:
    began = time.monotonic()
    with study_lock(tmp_path, named=True), pytest.raises(BadInput, match="is being run by"), study_lock(tmp_path, 30):
        pass
    assert time.monotonic() - began < 15


def test_a_submit_waits_for_another_one(tmp_path: Path) -> None:
    with study_lock(tmp_path, named=True):
        record = (tmp_path / ".runner").read_bytes()
    (tmp_path / ".runner").write_bytes(record.replace(b'"start_time": "', b'"start_time": "1'))  # a killed runner's
    held = threading.Event()

    def hold() -> None:
        with study_lock(tmp_path):
            held.set()
            time.sleep(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    with study_lock(tmp_path, 30):
        pass
    thread.join()
