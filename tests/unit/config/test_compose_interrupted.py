"""Ctrl-C while Hydra composes the configuration."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_the_composition_is_no_wrong_input() -> None:
    code = """
import signal, time
from ssl_pkg.config.compose import load_config

def compose(seconds):
    start = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        load_config(["stage=finetune", "run_dir=x", "source=random", "seed=1", "finetune.crop_area=[0.5,1]"])
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return time.process_time() - start

signal.signal(signal.SIGVTALRM, signal.default_int_handler)
duration, interrupted = min(compose(60) for _ in range(3)), 0
for number in range(120):
    try:
        compose(duration * (number + 0.5) / 120)
    except KeyboardInterrupt:
        interrupted += 1
print(interrupted)
"""  # in a process of its own, because the interruptions leave files open
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
