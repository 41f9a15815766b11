"""Signals to the real command line, while its process starts, works and ends."""

import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

from forked import wait_for_signal_handlers
from trainers import Study, differences

from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.run.signals import SIGNALS


def test_signals_throughout_a_process_change_neither_exit_status_nor_result(study: Study, folder: Path) -> None:
    line = [sys.executable, "-m", "ssl_pkg", *study.line("simclr", folder / "run")]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    wait_for_signal_handlers(process.pid)
    for number in cycle(SIGNALS):
        if process.poll() is not None:
            break
        process.send_signal(number)
        time.sleep(0.001)
    _, stderr = process.communicate()
    assert process.returncode == INTERRUPTED, stderr
    assert stderr.endswith("stopped after step 1 of 8; run the same command again to resume\n")

    done = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == COMPLETE, done.stderr
    assert differences(study.uninterrupted("simclr"), folder / "run") == []
