"""Rank and world size of this process, from the launcher's environment. Imports no torch.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. srun sets SLURM_PROCID, SLURM_STEP_NUM_TASKS,
SLURM_LOCALID and SLURM_STEP_NODELIST.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ssl_pkg.distributed.launch import is_task, master_port
from ssl_pkg.errors import BadInput


@dataclass(frozen=True)
class ProcessInfo:
    """This process's rank in the process group, and where the group meets."""

    rank: int
    world_size: int
    local_rank: int  # the rank among the processes on this host
    local_world_size: int | None  # None if the scheduler gives each process its own cores
    master_address: str
    master_port: int
    agent_store: bool  # whether torchrun's agent serves the TCPStore; otherwise rank 0 does
    restart_count: int = 0  # torchrun's store outlives its workers and keeps the keys of earlier attempts


def process_info(environment: Mapping[str, str] = os.environ) -> ProcessInfo | None:
    """This process's place in the group, from the environment. None for a single process.

    Raises BadInput if the environment names several processes, but not which of them this one is.
    """
    try:
        if int(environment.get("WORLD_SIZE", 1)) > 1:
            return ProcessInfo(
                int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment["LOCAL_RANK"]),
                int(environment["LOCAL_WORLD_SIZE"]), environment["MASTER_ADDR"], int(environment["MASTER_PORT"]),
                environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
                int(environment.get("TORCHELASTIC_RESTART_COUNT", 0)),
            )  # fmt: skip
        if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and is_task(environment):
            port = master_port(int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"]))
            return ProcessInfo(
                int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"]),
                int(environment["SLURM_LOCALID"]), None, first_host(environment["SLURM_STEP_NODELIST"]), port, False,
            )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise BadInput(
            f"the environment says that this is one of several processes, but not which ({error}): "
            "start them with torchrun or srun"
        ) from error
    return None


def first_host(nodes: str) -> str:
    """The first host of a SLURM node list such as `gpu[003-005,9]-ib,login1`."""
    found = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes
