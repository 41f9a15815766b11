"""The process group of one training: rank and world size from the launcher's environment, rendezvous, shutdown.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. srun sets SLURM_PROCID, SLURM_STEP_NUM_TASKS,
SLURM_LOCALID and SLURM_STEP_NODELIST.
"""

import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined] # in its stubs torch doesn't export them

from ssl_pkg.distributed.launch import is_task
from ssl_pkg.distributed.watchdog import START_TIMEOUT_SECONDS, Watchdog
from ssl_pkg.errors import BadInput, Interrupted

# Long, because a rank waits while another one evaluates or writes, and because the watchdog detects dead ranks.
_COLLECTIVE_TIMEOUT: Final = timedelta(hours=12)
_NOTICE_SECONDS: Final = 10.0  # of waiting for the other ranks, after which a rank prints that it waits


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
            # The same port on every rank, and different ports for two jobs on one host. Below 32768, because Linux
            # gives the ports from there on to outgoing connections.
            port = 20000 + (int(environment["SLURM_JOB_ID"]) * 10 + int(environment["SLURM_STEP_ID"]) % 10) % 12000
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


@contextmanager
def process_group(info: ProcessInfo | None) -> Iterator[None]:
    """Context manager that holds PyTorch's default process group: gloo for CPU tensors, NCCL for CUDA tensors.

    With `info` None there is a single process, and the context does nothing. Interrupted must be raised on every rank
    after the same step. Any other exception ends this process alone, and the watchdogs then end the other ranks.
    """
    if info is None:
        yield
        return
    serves_store = info.rank == 0 and not info.agent_store
    notice = threading.Timer(_NOTICE_SECONDS, _print_notice, (info,))
    notice.daemon = True
    notice.start()
    store = _connect(info, is_master=serves_store)
    watchdog = Watchdog(_connect(info, is_master=False), info.rank, info.world_size)
    watchdog.start()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore("group", store), rank=info.rank, world_size=info.world_size, timeout=_COLLECTIVE_TIMEOUT,
    )  # fmt: skip
    dist.barrier()
    notice.cancel()
    interrupted: Interrupted | None = None
    try:
        try:
            yield
        except Interrupted as error:
            interrupted = error
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "onnection" in str(error):  # gloo has no exception of its own
                traceback.print_exc()
                watchdog.end("another rank has exited")
            raise
        watchdog.leave(serves_store)
        # Not after a failure, because NCCL waits here for the other ranks.
        dist.destroy_process_group()
    finally:
        watchdog.stop()
    if interrupted:
        raise interrupted


def _connect(info: ProcessInfo, *, is_master: bool) -> PrefixStore:
    store = TCPStore(
        info.master_address, info.master_port, None, is_master,
        timeout=timedelta(seconds=START_TIMEOUT_SECONDS), wait_for_workers=False,
    )  # fmt: skip
    return PrefixStore(f"attempt {info.restart_count}", store)


def _print_notice(info: ProcessInfo) -> None:
    print(
        f"ssl_pkg: rank {info.rank} waits for the other {info.world_size - 1} of {info.world_size} processes to start. "
        "To train in one process, put `env -u SLURM_STEP_NUM_TASKS -u WORLD_SIZE` in front of the command",
        file=sys.stderr, flush=True,
    )  # fmt: skip
