"""Which launch started this process: torchrun, a step of srun, or neither. Imports no torch.

A process inherits the variables of every launch around it. In a shell from `srun --pty -n 2 bash` they name a step of
two tasks, but what is typed there is one process.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

STEP: Final = "SSL_STUDY_STEP"  # set by this project's launchers: the step whose tasks are the stage's process group
_LAUNCH: Final = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_\w+"
    r"|SLURM_(STEP(ID|MGR)?(_\w+)?|PROCID|LOCALID|NODEID|TASK_PID|GTIDS|PTY_\w+|LAUNCH_NODE_IPADDR)"
)


def is_task(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of the tasks of the step that the environment names.

    A task's own process is. Of its children those are that a launcher has marked, and without any mark those that a
    script starts, but not those that are typed in the task's terminal.
    """
    task = environment.get("SLURM_TASK_PID", "")
    if task == str(os.getpid()):
        return True
    if STEP in environment:
        return environment[STEP] == _step(environment)
    try:
        return not Path(f"/proc/{task}/fd/0").readlink().is_relative_to("/dev/pts")
    except OSError:  # not to be seen, as from a container
        return "SLURM_PTY_PORT" not in environment


def mark(environment: Mapping[str, str]) -> dict[str, str]:
    """What a launcher that is itself a task gives its child, so that the child counts as the task."""
    return {STEP: _step(environment)} if "SLURM_STEP_ID" in environment and is_task(environment) else {}


def variables(names: Iterable[str]) -> list[str]:
    """Those of these environment variables that say which process of a launch a process is."""
    return [name for name in names if name == STEP or _LAUNCH.fullmatch(name)]


def _step(environment: Mapping[str, str]) -> str:
    return f"{environment.get('SLURM_JOB_ID')}.{environment.get('SLURM_STEP_ID')}"
