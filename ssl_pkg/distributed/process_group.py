"""The process group of one training: rendezvous and shutdown."""

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined] # in its stubs torch doesn't export them

from ssl_pkg.distributed.process_info import ProcessInfo
from ssl_pkg.distributed.watchdog import START_TIMEOUT_SECONDS, Watchdog
from ssl_pkg.errors import Interrupted

# Long, because a rank waits while another one evaluates or writes, and because the watchdog detects dead ranks.
_COLLECTIVE_TIMEOUT: Final = timedelta(hours=12)
_NOTICE_SECONDS: Final = 10.0  # of waiting for the other ranks, after which a rank prints that it waits


@contextmanager
def process_group(info: ProcessInfo | None) -> Iterator[None]:
    """Context manager that holds PyTorch's default process group: gloo for CPU tensors, NCCL for CUDA tensors.

    With `info` None there is a single process, and the context does nothing. Interrupted must be raised on every rank
    after the same step. Any other exception ends only this process, and the watchdogs then end the other ranks.
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
