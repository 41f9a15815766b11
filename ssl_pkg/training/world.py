"""The processes of one training: who they are, how they meet, and that none outlives the others for long.

torchrun says who a process is by RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; srun by SLURM_PROCID,
SLURM_STEP_NUM_TASKS, SLURM_LOCALID and SLURM_STEP_NODELIST.
"""

import os
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Never

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined] # in its stubs torch doesn't export them
from torch.nn.parallel import DistributedDataParallel

from ssl_pkg.errors import FAULT, BadInput, Interrupted
from ssl_pkg.launch import is_task
from ssl_pkg.methods.base import Method

BEAT_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 15.0  # a rank not heard of for so long is gone
# A rank may wait long for another that evaluates or writes; whether that one is alive, the watch knows.
_PATIENCE: Final = timedelta(hours=12)
_MEETING_SECONDS: Final = 300.0  # until all have started
_LATE_SECONDS: Final = 10.0  # after which a process that waits for others to start says so
_LEFT: Final = 1 << 40  # added to the beats of a rank that has left in good order


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
            timeout=timedelta(seconds=_MEETING_SECONDS),
            wait_for_workers=False,
        )
        return PrefixStore(f"attempt {here.attempt}", store)

    late = threading.Timer(_LATE_SECONDS, _say_late, (here,))
    late.daemon = True
    late.start()
    store = connect(lead)
    watch = _Watch(connect(False), here)
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


class _Loss(nn.Module):
    """A method's loss as a module's forward, which is what DistributedDataParallel takes."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.method.loss(views, labels)


def loss_of(method: Method) -> nn.Module:
    """The method's loss, whose backward leaves the mean of all ranks' gradients; they travel while it computes.

    Each rank keeps its own running statistics where they are not synchronised; rank 0's are those that are saved.
    """
    # a 1x1 kernel lies in memory the same way in both layouts, which the reducer takes for a difference
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # Not to find any: without it the gradients travel in one piece in a process's first step and in several later, and
    # from three ranks on the order in which an element is summed depends on its place in the piece. A training that
    # goes on from a checkpoint would not end with the same bits.
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    return DistributedDataParallel(
        _Loss(method), forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
    )


def shared(value: Any) -> Any:
    """Rank 0's `value`, on every rank."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def largest(*flags: bool) -> list[bool]:
    """Of each flag whether it is set on any rank."""
    if not dist.is_initialized():
        return list(flags)
    numbers = torch.tensor(flags, dtype=torch.uint8)  # on the CPU, so that no rank waits for its GPU
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return [bool(number) for number in numbers.tolist()]


class _Watch:
    """Counts this rank's beats up, looks whether the others' go on, and ends the process when one's do not.

    A second thread looks whether the first one goes on: a store whose host is lost, or whose process stands still,
    leaves it waiting for an answer for ever.
    """

    def __init__(self, store: PrefixStore, here: Place) -> None:
        self._store, self._here = store, here
        self._done, self._stopped = threading.Event(), threading.Event()
        self._looked = time.monotonic()
        self._threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True) for target in (self._watch, self._guard)
        ]

    def start(self) -> None:
        """Beats for the first time, so that nobody takes this rank for one that has not started yet."""
        self._beat(1)
        for thread in self._threads:
            thread.start()

    def leave(self, last: bool) -> None:
        """Says that this rank needs the others no more; the one that holds the store stays until all have said so."""
        if not last:  # the store may end as soon as it has heard of it
            self._done.set()
        self._beat(_LEFT)
        while last and any(self._beats(r) < _LEFT for r in range(self._here.size)):
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(BEAT_SECONDS)  # no longer, for the store may not answer

    def _watch(self) -> None:
        others = [r for r in range(self._here.size) if r != self._here.rank]
        seen = {r: (0, time.monotonic()) for r in others}
        woke = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            if _stood_still(woke):  # all of them, if the scheduler has suspended the job: their silence counts anew
                seen = {r: (beats, time.monotonic()) for r, (beats, _) in seen.items()}
            woke = time.monotonic()
            try:
                self._beat(1)
                for r in others:
                    beats, now = self._beats(r), time.monotonic()
                    if beats != seen[r][0]:
                        seen[r] = (beats, now)
                    elif beats < _LEFT and now - seen[r][1] > (SILENCE_SECONDS if beats else _MEETING_SECONDS):
                        self.end(f"rank {r} has not been heard of for {now - seen[r][1]:.0f} s")
            except RuntimeError:
                if self._stopped.is_set() or self._done.is_set():
                    return
                self.end("the leading process has ended")
            self._looked = time.monotonic()

    def _guard(self) -> None:
        woke = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            if _stood_still(woke):
                self._looked = time.monotonic()
            woke = time.monotonic()
            if (silent := time.monotonic() - self._looked) > SILENCE_SECONDS:
                self.end(f"the leading process has not answered for {silent:.0f} s")

    def _beat(self, count: int) -> None:
        self._store.add(f"beats/{self._here.rank}", count)

    def _beats(self, rank: int) -> int:
        return self._store.add(f"beats/{rank}", 0)

    def end(self, why: str) -> Never:
        """Ends this process, since the training can't go on without the others."""
        print(
            f"ssl_pkg: rank {self._here.rank} of {self._here.size} stops, for {why}: run the same line again to go on",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(FAULT)  # the main thread may stand in a collective that nothing else can end


def _stood_still(woke: float) -> bool:
    """Whether this process was stopped since, although it wanted to sleep for a beat only."""
    return time.monotonic() - woke > SILENCE_SECONDS / 2
