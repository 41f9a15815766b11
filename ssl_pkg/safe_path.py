"""Nothing in the working folder is imported unless it is the project itself.

`python -m ssl_pkg` puts the working folder in front of all other places, and so do empty entries of PYTHONPATH: a
user's own yaml.py or analysis.py there would be run. This module imports nothing that could be shadowed.
"""

import os
import sys


def protect() -> None:
    """Takes the working folder out of this process's import path, and out of that of every process that it starts."""
    try:
        here = os.getcwd()
    except OSError:  # the folder is gone, and abspath would look for it
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    listed = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if here != root:
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
        listed = [entry for entry in listed if entry != here]
    elif not sys.flags.safe_path:
        listed.insert(0, root)  # the processes to come are of the same checkout, whichever is installed
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.pop("PYTHONPATH", None)
    if listed:
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(listed))
