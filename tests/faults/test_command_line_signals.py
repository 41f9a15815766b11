"""The same through the command line itself, whose process also starts and ends."""

import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

from conftest import Study
from trainers import differences, wait_until_it_catches_signals

from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.run.signals import SIGNALS


def test_signals_from_the_first_moment_to_the_last_change_neither_status_nor_result(study: Study, folder: Path) -> None:
    line = [sys.executable, "-m", "ssl_pkg", *study.line("simclr", folder / "run")]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    wait_until_it_catches_signals(process.pid)
    for number in cycle(SIGNALS):
        if process.poll() is not None:
            break
        process.send_signal(number)
        time.sleep(0.001)
    _, said = process.communicate()
    assert process.returncode == INTERRUPTED, said
    assert said.endswith("stopped after step 1 of 8; run the same command again to resume\n")

    done = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == COMPLETE, done.stderr
    assert differences(study.straight("simclr"), folder / "run") == []
