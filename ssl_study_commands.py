"""The console commands: `ssl-study`, `ssl-study-stage` and `ssl-study-report`.

An empty entry of PYTHONPATH puts the working folder first in the import path. A folder `jobs` or `ssl_pkg` there would
be imported instead of the project's package, before any code of the project runs. The commands therefore start in this
module, whose name is unlikely to be used elsewhere, and which imports only modules that Python itself has loaded.
"""

import os
import sys


def study() -> None:
    """Runs `ssl-study`."""
    _remove_working_folder()
    from jobs.__main__ import entry

    entry()


def stage() -> None:
    """Runs `ssl-study-stage`."""
    _remove_working_folder()
    from ssl_pkg.__main__ import entry

    entry()


def report() -> None:
    """Runs `ssl-study-report`."""
    _remove_working_folder()
    from analysis.__main__ import entry

    entry()


def _remove_working_folder() -> None:
    """Removes the working folder from the import path, unless it is the project's folder."""
    try:
        here = os.getcwd()
    except OSError:  # the folder was removed
        return
    if here != os.path.dirname(os.path.abspath(__file__)):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
