"""Keeps Python from importing files of the working folder, unless that folder is the project itself.

`python -m ssl_pkg` puts the working folder first in the import path, and so does an empty entry of PYTHONPATH. A user's
own yaml.py or analysis.py there would be imported. This module imports no module that such a file could shadow.
"""

import os
import sys


def protect() -> None:
    """Removes the working folder from the import path of this process and of all its child processes."""
    try:
        here = os.getcwd()
    except OSError:  # the working folder was removed; abspath would fail too
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    listed = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if here != root:
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
        listed = [entry for entry in listed if entry != here]
    elif not sys.flags.safe_path:
        listed.insert(0, root)  # child processes must import this checkout, not an installed one
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.pop("PYTHONPATH", None)
    if listed:
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(listed))
