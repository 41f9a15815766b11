"""A process that begins anew with another malloc is the same one, has the same arguments, and loses no signal."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from ssl_pkg.hardware import memory
from ssl_pkg.run.signals import SIGNALS

LIBRARY = "libutil.so.1"  # any that nothing here needs
PROGRAM = """
import os, sys
from pathlib import Path
from ssl_pkg.hardware import memory
from ssl_pkg.run.signals import SIGNALS
print(os.getpid(), flush=True)
memory.jemalloc = lambda: Path(sys.argv[1]) if sys.argv[1] else None
memory.prefer_jemalloc(SIGNALS)
settings = [os.environ.get(name) for name in ("LD_PRELOAD", "MALLOC_CONF", "MINE")]
print(sys.argv[1:], *settings, "libutil" in Path("/proc/self/maps").read_text())
print(sys.warnoptions)
"""


def begun(*arguments: str, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MALLOC_CONF")}
    line = [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]
    done = subprocess.run(
        line, env=environment | {"MINE": "mine"} | variables, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout.splitlines()


def test_the_same_process_begins_anew_with_the_library_loaded_before_all_others() -> None:
    first, again, said, options = begun(LIBRARY, "run_dir=a b")
    assert first == again and options == "['error']"
    keeps = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
    assert said == f"{[LIBRARY, 'run_dir=a b']} {LIBRARY} {keeps} mine True"


def test_the_users_settings_of_it_stay() -> None:
    assert "narenas:1 mine True" in begun(LIBRARY, MALLOC_CONF="narenas:1")[-2]


def test_without_the_library_it_goes_on_as_it_is() -> None:
    assert begun("")[1:-1] == ["[''] None None mine False"]


FAULTS = """
import ctypes, resource
from ssl_pkg.compose import load_config
from ssl_pkg.hardware.prepare import prepare
prepare(load_config(["stage=pretrain", "method=simclr", "run_dir=run", "device=cpu"]))
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
for step in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(64 << 20))
    libc.memset(block, 1, 64 << 20)
    libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_glibc_keeps_what_is_freed_for_the_next_step() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    faults = [int(line) for line in done.stdout.split()]
    assert len(faults) == 6 and faults[0] > 1000
    assert max(faults[3:]) < 100  # a page of 4 KB a fault


@pytest.mark.parametrize("preloaded", ["", "libm.so.6"])
def test_what_is_preloaded_already_stays(preloaded: str) -> None:
    assert begun(LIBRARY, LD_PRELOAD=preloaded)[1:-1] == [f"['{LIBRARY}'] {preloaded} None mine False"]


def test_where_the_library_gets_lost_on_the_way_it_ends_there() -> None:
    """As for a program that ld.so does not trust."""
    lost = "import os; os.environ.pop('LD_PRELOAD', None)\n"
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    line = [sys.executable, "-c", lost + PROGRAM, LIBRARY]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=30, check=True)
    first, again, said, _ = done.stdout.splitlines()
    assert first == again and f"['{LIBRARY}'] None " in said


def test_a_python_that_does_not_know_its_own_file_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "jemalloc", lambda: Path(LIBRARY))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(sys, "executable", "")
    memory.prefer_jemalloc(SIGNALS)


def test_signals_wait_for_the_new_program_and_come_where_it_cannot_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []

    def execve(*line: object) -> NoReturn:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        raise PermissionError

    monkeypatch.setattr(memory, "jemalloc", lambda: Path(LIBRARY))
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(os, "execve", execve)
    memory.prefer_jemalloc(SIGNALS)
    assert set(SIGNALS) <= masks[0]
    assert not set(SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, [])
