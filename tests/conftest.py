import atexit
import os
import sys

import pytest

status = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[status] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the process as `python -m ssl_pkg` does: oneDNN's own ending sometimes is a segmentation fault."""
    if "torch" in sys.modules and status in config.stash:
        atexit._run_exitfuncs()  # pytest's own: old temporary folders are removed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[status])
