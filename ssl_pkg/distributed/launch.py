"""Which launcher started this process: torchrun, srun, or none. Imports no torch.

The environment alone does not say so, because a process inherits the variables of every launcher above it. A shell
from `srun --pty -n 2 bash` has the variables of a step of two tasks, but a command typed there is a single process.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

STEP: Final = "SSL_STUDY_STEP"  # set by this project's launchers: the step whose tasks are the ranks of the stage
_LAUNCH: Final = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)|ROLE_NAME|MASTER_(ADDR|PORT)|TORCHELASTIC_\w+"
    r"|SLURM_(STEP(ID|MGR)?(_\w+)?|PROCID|LOCALID|NODEID|TASK_PID|GTIDS|PTY_\w+|LAUNCH_NODE_IPADDR)"
)


def is_task(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of the tasks of the SLURM step that the environment names.

    The task's own process is one. A child of the task is one if a launcher marked it with STEP. Without a mark, a child
    that a script started is one, but not a command that a user typed in the task's terminal.
    """
    task = environment.get("SLURM_TASK_PID", "")
    if task == str(os.getpid()):
        return True
    if STEP in environment:
        return environment[STEP] == _step(environment)
    try:
        return not Path(f"/proc/{task}/fd/0").readlink().is_relative_to("/dev/pts")
    except OSError:  # the task is not visible, for example from inside a container
        return "SLURM_PTY_PORT" not in environment


def step_mark(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a launcher gives its child: if the launcher is a task, the child counts as that task."""
    return {STEP: _step(environment)} if "SLURM_STEP_ID" in environment and is_task(environment) else {}


def master_port(job: int, step: int) -> int:
    """The port at which the ranks of a SLURM step meet: the same on every rank, another for another job on one host.

    It is below 32768, because Linux gives the ports from there on to outgoing connections.
    """
    return 20000 + (job * 10 + step % 10) % 12000


def launch_variables(names: Iterable[str]) -> list[str]:
    """Those of the environment variables `names` that a launcher sets to number its processes."""
    return [name for name in names if name == STEP or _LAUNCH.fullmatch(name)]


def _step(environment: Mapping[str, str]) -> str:
    return f"{environment.get('SLURM_JOB_ID')}.{environment.get('SLURM_STEP_ID')}"
