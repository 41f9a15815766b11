"""The console commands: `ssl-study`, `ssl-study-stage` and `ssl-study-report`.

An empty entry of PYTHONPATH puts the working folder in front of all other places. A folder `jobs` or `ssl_pkg` there
would be imported in the place of the project's own, before any of its code could run. So the commands begin in this
module, whose name no other folder has, and which imports only what Python itself has imported before.
"""

import os
import sys


def study() -> None:
    """Runs `ssl-study`."""
    _leave_out_working_folder()
    from jobs.__main__ import entry

    entry()


def stage() -> None:
    """Runs `ssl-study-stage`."""
    _leave_out_working_folder()
    from ssl_pkg.__main__ import entry

    entry()


def report() -> None:
    """Runs `ssl-study-report`."""
    _leave_out_working_folder()
    from analysis.__main__ import entry

    entry()


def _leave_out_working_folder() -> None:
    """Removes the working folder from the import path, unless it is the project's own."""
    try:
        here = os.getcwd()
    except OSError:  # the folder was removed
        return
    if here != os.path.dirname(os.path.abspath(__file__)):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
