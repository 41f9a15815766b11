"""The console command `ssl-study`: its name in messages, and its commands."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

PROGRAM: Final = "ssl-study"
COMMANDS: Final = {
    "demo": "run the whole study on synthetic images, and make its report",
    "study": "run the missing runs of a study on this machine, and make its report",
    "submit": "submit the missing runs of a study to a SLURM cluster",
    "status": "show the state of each run",
    "cancel": "stop a study, here or on the cluster; its runs write checkpoints",
    "logs": "show the end of a run's log; without a run, list the logs",
    "report": "make the report from the runs that exist, of one study or of several",
    "pack": "make a data set of folders of your own photographs",
    "predict": "predict the classes of images with a trained model",
    "data": "download STL-10 and CIFAR-10, or generate the synthetic set",
    "doctor": "show what this machine has, and what a run will use",
    "profile": "show a cluster's profile, and check it",
}


def console_command() -> str:
    """`ssl-study` as it can be typed here: with its path, which may be relative, if the shell finds none or another."""
    installed = Path(sys.executable).with_name(PROGRAM)
    if not installed.exists() or shutil.which(PROGRAM) == str(installed):
        return PROGRAM
    with suppress(OSError, ValueError):  # the working folder was removed, or is elsewhere
        relative = str(installed.relative_to(Path.cwd()))
        return relative if "/" in relative else f"./{relative}"
    return str(installed)
