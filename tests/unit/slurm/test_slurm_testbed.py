import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from slurm import testbed
from slurm.processes import is_alive, terminate
from slurm.testbed import LocalCluster


def test_another_process_that_has_the_number_of_an_ended_daemon_is_not_killed(tmp_path: Path) -> None:
    """After a reboot the number in a pid file can be that of any process."""
    daemon = shutil.copy("/bin/sleep", tmp_path / "slurmd")
    started = [subprocess.Popen([program, "60"]) for program in ("sleep", daemon)]
    other, own = tmp_path / "slurmctld.pid", tmp_path / "slurmd-127.0.0.11.pid"
    try:
        for file, process in zip((other, own), started, strict=True):
            file.write_text(str(process.pid))
        deadline = time.monotonic() + 10
        while not is_alive(own) and time.monotonic() < deadline:  # the kernel sets the name after Popen has returned
            time.sleep(0.01)
        assert (is_alive(other), is_alive(own)) == (False, True)
        LocalCluster(tmp_path).down()
        terminate([other])
        assert started[1].wait(10) and started[0].poll() is None
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_the_printed_command_quotes_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "my study's folder"
    monkeypatch.setattr(testbed, "DEFAULT_BASE", base)
    monkeypatch.setattr(LocalCluster, "up", lambda bed: None)
    assert testbed.main(["up"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(line) == ["export", f"SLURM_CONF={base}/slurm.conf"]
