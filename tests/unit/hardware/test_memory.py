"""A process that restarts itself with another malloc keeps its number, its arguments and its pending signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from ssl_pkg.hardware import memory
from ssl_pkg.run.signals import SIGNALS

LIBRARY = "libutil.so.1"  # any library that is not loaded otherwise
PROGRAM = """
import os, sys
from pathlib import Path
from ssl_pkg.hardware import memory
from ssl_pkg.run.signals import SIGNALS
print(os.getpid(), flush=True)
memory.find_jemalloc = lambda: Path(sys.argv[1]) if sys.argv[1] else None
memory.restart_with_jemalloc(SIGNALS)
settings = [os.environ.get(name) for name in ("LD_PRELOAD", "MALLOC_CONF", "MINE")]
print(sys.argv[1:], *settings, "libutil" in Path("/proc/self/maps").read_text())
print(sys.warnoptions)
"""


def output_of(*arguments: str, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MALLOC_CONF")}
    line = [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]
    done = subprocess.run(
        line, env=environment | {"MINE": "mine"} | variables, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout.splitlines()


def test_the_same_process_restarts_with_the_library_preloaded() -> None:
    first_pid, second_pid, printed, options = output_of(LIBRARY, "run_dir=a b")
    assert first_pid == second_pid and options == "['error']"
    malloc_conf = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
    assert printed == f"{[LIBRARY, 'run_dir=a b']} {LIBRARY} {malloc_conf} mine True"


def test_the_users_malloc_conf_is_kept() -> None:
    assert "narenas:1 mine True" in output_of(LIBRARY, MALLOC_CONF="narenas:1")[-2]


def test_without_the_library_the_process_continues_unchanged() -> None:
    assert output_of("")[1:-1] == ["[''] None None mine False"]


FAULTS = """
import ctypes, resource
from ssl_pkg.config.compose import load_config
from ssl_pkg.hardware.prepare import prepare
prepare(load_config(["stage=pretrain", "method=simclr", "run_dir=run", "device=cpu"]))
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE, so that each fault is a page of 4 KB
for step in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(64 << 20))
    libc.memset(block, 1, 64 << 20)
    libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_glibc_keeps_freed_memory_for_the_next_step() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    faults = [int(line) for line in done.stdout.split()]
    assert len(faults) == 6 and faults[0] > 1000
    assert max(faults[3:]) < 100


@pytest.mark.parametrize("preloaded", ["", "libm.so.6"])
def test_a_library_that_is_already_preloaded_is_kept(preloaded: str) -> None:
    assert output_of(LIBRARY, LD_PRELOAD=preloaded)[1:-1] == [f"['{LIBRARY}'] {preloaded} None mine False"]


def test_the_restart_is_not_repeated_if_ld_preload_gets_lost() -> None:
    """ld.so removes LD_PRELOAD from a setuid program's environment."""
    lost = "import os; os.environ.pop('LD_PRELOAD', None)\n"
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    line = [sys.executable, "-c", lost + PROGRAM, LIBRARY]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=30, check=True)
    first_pid, second_pid, printed, _ = done.stdout.splitlines()
    assert first_pid == second_pid and f"['{LIBRARY}'] None " in printed


def test_a_python_without_sys_executable_continues_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "find_jemalloc", lambda: Path(LIBRARY))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(sys, "executable", "")
    memory.restart_with_jemalloc(SIGNALS)


def test_signals_stay_blocked_until_the_new_program_runs_or_the_restart_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []

    def execve(*line: object) -> NoReturn:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        raise PermissionError

    monkeypatch.setattr(memory, "find_jemalloc", lambda: Path(LIBRARY))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(os, "execve", execve)
    memory.restart_with_jemalloc(SIGNALS)
    assert set(SIGNALS) <= masks[0]
    assert not set(SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, [])
