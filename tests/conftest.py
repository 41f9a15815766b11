import atexit
import os
import signal
import sys

import pytest

status = pytest.StashKey[int]()


def pytest_configure() -> None:
    """Undoes what nohup and a shell's background jobs do, because processes that ignore a signal pass that on."""
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[status] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Exits like `python -m ssl_pkg`, without oneDNN's clean-up, which sometimes causes a segmentation fault."""
    if "torch" in sys.modules and status in config.stash:
        atexit._run_exitfuncs()  # pytest's handlers remove old temporary folders
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[status])
