"""The processes of one training: who they are, how they meet, and that none outlives the others for long.

torchrun says who a process is by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; srun by SLURM_PROCID,
SLURM_STEP_NUM_TASKS, SLURM_LOCALID and SLURM_STEP_NODELIST.
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
from ssl_pkg.distributed.watchdog import MEETING_SECONDS, Watchdog
from ssl_pkg.errors import BadInput, Interrupted

# A rank may wait long for another that evaluates or writes; whether that one is alive, the watch knows.
_PATIENCE: Final = timedelta(hours=12)
_LATE_SECONDS: Final = 10.0  # after which a process that waits for others to start says so


@dataclass(frozen=True)
class Place:
    """This process among the others."""

    rank: int
    size: int
    local_rank: int  # among those on its host
    local_size: int | None  # None where the scheduler has given each its own cores
    address: str
    port: int
    store_is_there: bool  # torchrun's agent holds one already
    attempt: int = 0  # torchrun's store outlives its workers, and keeps what those of earlier attempts wrote


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """What the environment says, or None for a process of its own. Raises BadInput where it makes no sense."""
    try:
        if int(environment.get("WORLD_SIZE", 1)) > 1:
            return Place(
                int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment["LOCAL_RANK"]),
                int(environment["LOCAL_WORLD_SIZE"]), environment["MASTER_ADDR"], int(environment["MASTER_PORT"]),
                environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
                int(environment.get("TORCHELASTIC_RESTART_COUNT", 0)),
            )  # fmt: skip
        if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and is_task(environment):
            # Every rank must come to the same port, two jobs on a host to different ones, and none to one of those that
            # Linux gives to outgoing connections, from 32768 on.
            port = 20000 + (int(environment["SLURM_JOB_ID"]) * 10 + int(environment["SLURM_STEP_ID"]) % 10) % 12000
            return Place(
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
    """The first host of a SLURM list like `gpu[003-005,9]-ib,login1`."""
    found = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes


@contextmanager
def joined(here: Place | None) -> Iterator[None]:
    """Inside, the processes of this training are one group: gloo between CPUs, NCCL between GPUs."""
    if here is None:
        yield
        return
    lead = here.rank == 0 and not here.store_is_there

    def connect(is_master: bool) -> PrefixStore:
        store = TCPStore(
            here.address,
            here.port,
            None,
            is_master,
            timeout=timedelta(seconds=MEETING_SECONDS),
            wait_for_workers=False,
        )
        return PrefixStore(f"attempt {here.attempt}", store)

    late = threading.Timer(_LATE_SECONDS, _say_late, (here,))
    late.daemon = True
    late.start()
    store = connect(lead)
    watch = Watchdog(connect(False), here.rank, here.size)
    watch.start()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=PrefixStore("group", store), rank=here.rank, world_size=here.size, timeout=_PATIENCE,
    )  # fmt: skip
    dist.barrier()
    late.cancel()
    interrupted: Interrupted | None = None
    try:
        try:
            yield
        except Interrupted as error:  # of all ranks, after the same step
            interrupted = error
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "onnection" in str(error):  # gloo raises no error of its own
                traceback.print_exc()
                watch.end("another process of the training has ended")
            raise
        watch.leave(last=lead)
        dist.destroy_process_group()  # not by a rank that fails: NCCL's waits for the others, whom its silence ends
    finally:
        watch.stop()
    if interrupted:
        raise interrupted


def _say_late(here: Place) -> None:
    print(
        f"ssl_pkg: rank {here.rank} waits for the other {here.size - 1} of {here.size} processes to start. "
        "For a training in one process, type `env -u SLURM_STEP_NUM_TASKS -u WORLD_SIZE` in front of the line",
        file=sys.stderr, flush=True,
    )  # fmt: skip
