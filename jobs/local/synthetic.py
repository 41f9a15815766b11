"""Generates the synthetic set for the runs of a study on this machine."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from ssl_pkg.cache import is_synthetic_set, synthetic_set
from ssl_pkg.errors import BadInput


def generate(say: Callable[[str], None], wait: Callable[[], bool]) -> None:
    """Generates the synthetic set in a process of its own, unless it exists.

    say: shows a message. wait: called again and again until the process has ended; the process is stopped if it returns
    false. If the set can't be generated, the first stage that needs it says why.
    """
    try:
        folder = synthetic_set()
    except BadInput:
        return
    if is_synthetic_set(folder):
        return
    say(f"generating the synthetic images in {folder} (once)")
    command = (sys.executable, "-P", "-m", "ssl_pkg.data.download", "--synthetic", str(folder))
    with suppress(OSError), subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if not wait():
                process.send_signal(signal.SIGINT)  # on which it deletes what it has written
                break
