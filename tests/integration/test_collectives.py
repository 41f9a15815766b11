"""Two processes with half a batch each compute what one process computes with the whole batch."""

import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import View
from ssl_pkg.data.images import Split
from ssl_pkg.distributed.collectives import all_reduce_mean, any_rank, broadcast, local_shard, world_size
from ssl_pkg.distributed.process_group import process_group
from ssl_pkg.distributed.process_info import ProcessInfo, first_host, process_info
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.methods.base import Method
from ssl_pkg.models.sync_batch_norm import synchronise_batch_norm
from ssl_pkg.stages.pretrain import build_method
from ssl_pkg.training.batches import ViewBatches
from ssl_pkg.training.ddp import distributed_loss
from ssl_pkg.training.optimizers import build_optimizer
from ssl_pkg.training.step import Step, Task

METHODS = ("simclr", "byol", "moco")
BATCH, STEPS = 16, 8


def built(name: str) -> Method:
    line = ["stage=pretrain", f"method={name}", "run_dir=-", "budget=tiny"]
    line += ["method.model.bn_splits=4"] if name == "moco" else []
    config = load_config([*line, f"method.batch_size={BATCH}"])
    assert config.method is not None
    method = build_method(config.method, seed=0)
    # Residual branches start small. Otherwise a rounding error of the first layer grows tenfold in the others, and on
    # some processors half a batch and a whole one then differ by more than 1e-5.
    for parameter, weight in cast(nn.Module, method).named_parameters():
        if parameter.endswith("bn2.weight"):
            nn.init.constant_(weight, 0.1)
    if method.sync_batch_norm:
        synchronise_batch_norm(cast(nn.Module, method))
    return method


def batch() -> tuple[list[Tensor], Tensor]:
    """Smooth images, so that no ReLU input is so close to 0 that rounding changes its sign and the gradient.

    They have 64 px. Of 32 px, one value of each channel would remain in the last layers, and MoCo would normalise
    groups of four values, which amplifies rounding errors to more than 1e-5 on some processors.
    """
    generator = torch.Generator().manual_seed(1)
    spots = [torch.randn(BATCH, 3, 4, 4, generator=generator) for _ in range(2)]
    views = [F.interpolate(spot, size=(64, 64), mode="bicubic") for spot in spots]
    return views, torch.randint(10, (BATCH,), generator=generator)


def computed(name: str) -> dict[str, Any]:
    """Loss, metrics, gradients and state after one backward pass on this rank's shard of the batch."""
    method = built(name)
    views, labels = batch()
    function = distributed_loss(method) if world_size() > 1 else method.loss
    loss, metrics = function([local_shard(view) for view in views], local_shard(labels))
    loss.backward()
    module = cast(nn.Module, method)
    method.after_step(0, STEPS)
    return {
        "metrics": all_reduce_mean({"loss": loss.detach(), **metrics}),
        "gradients": {n: p.grad for n, p in module.named_parameters() if p.grad is not None},
        "state": module.state_dict(),
    }


@cache
def computed_by_one_process(name: str) -> dict[str, Any]:
    """The same in one process with the global batch."""
    return computed(name)


def views_of_a_step() -> tuple[list[Tensor], Tensor]:
    """This rank's views and labels of step 3, which is in the second epoch."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 96, 96), dtype=np.uint8)
    source = ViewBatches(
        Split("train", pixels, np.arange(20)), [View(crop_area=(0.2, 1.0), flip=0.5)] * 2,
        resolution=32, batch_size=8, seed=0, device=torch.device("cpu"), resident_gb=1.0,
    )  # fmt: skip
    return source(3)


def metrics_of_a_step() -> dict[str, float]:
    """The metrics of a training step whose loss is the mean of this rank's share of 0, 1, … 15."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    cast(Any, network).after_step = lambda step, steps: None
    task = Task(
        phase="train",
        model=cast(Method, network),
        loss=lambda views, labels: (network(views[0]).mean(), {"largest": views[0].max()}),
        optimizer=build_optimizer("sgd", [{"params": [network.weight]}], weight_decay=0.0),
        lr=lambda step: 0.1,
        batch=lambda step: ([local_shard(torch.arange(16.0).unsqueeze(1))], torch.zeros(1)),
        indices=lambda step: np.arange(16),
        steps=1,
        steps_per_epoch=1,
    )
    metrics = Step(task, Hardware(torch.device("cpu"), torch.float32, 1, compiles=False))(0)
    return {name: float(value) for name, value in metrics.items()}


def one_rank(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    with process_group(ProcessInfo(rank, 2, rank, 2, "127.0.0.1", port, agent_store=False)):
        results = {name: computed(name) for name in METHODS}
        results["broadcast"] = broadcast("from rank 0" if rank == 0 else None)
        results["views"] = views_of_a_step()
        results["metrics"] = metrics_of_a_step()
        results["any_rank"] = any_rank(rank == 1, False)
        torch.save(results, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_rank, args=(port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


@pytest.mark.parametrize("name", METHODS)
def test_loss_and_every_gradient_are_those_of_the_whole_batch(name: str, ranks: list[dict[str, Any]]) -> None:
    whole = computed_by_one_process(name)
    scale = max(float(gradient.abs().max()) for gradient in whole["gradients"].values())
    for part in (rank[name] for rank in ranks):
        assert part["metrics"].keys() == whole["metrics"].keys()
        for metric, value in whole["metrics"].items():
            assert float(part["metrics"][metric]) == pytest.approx(float(value), rel=1e-5)
        assert part["gradients"].keys() == whole["gradients"].keys()
        for parameter, gradient in whole["gradients"].items():
            # the gradient of a bias in front of a batch normalisation is zero, up to rounding
            if gradient.abs().max() > 1e-6 * scale:
                assert distance(gradient, part["gradients"][parameter]) < 1e-5, parameter


@pytest.mark.parametrize("name", METHODS)
def test_both_ranks_hold_the_same_gradients_to_the_bit(name: str, ranks: list[dict[str, Any]]) -> None:
    first, second = (rank[name]["gradients"] for rank in ranks)
    assert all(torch.equal(gradient, second[parameter]) for parameter, gradient in first.items())


@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_running_statistics_are_those_of_the_whole_batch(name: str, ranks: list[dict[str, Any]]) -> None:
    whole = computed_by_one_process(name)["state"]
    for part in (rank[name]["state"] for rank in ranks):
        for key in whole:
            if "running" in key:
                assert distance(whole[key], part[key]) < 1e-5, key


def test_every_rank_puts_the_whole_batch_of_keys_into_the_queue(ranks: list[dict[str, Any]]) -> None:
    whole = computed_by_one_process("moco")["state"]["queue"]
    for part in (rank["moco"]["state"]["queue"] for rank in ranks):
        assert distance(whole, part) < 1e-5


def test_the_shards_in_rank_order_are_the_batch_of_one_process(ranks: list[dict[str, Any]]) -> None:
    views, labels = views_of_a_step()
    parts = [rank["views"] for rank in ranks]
    assert torch.equal(torch.cat([part[1] for part in parts]), labels)
    for number, view in enumerate(views):
        assert torch.equal(torch.cat([part[0][number] for part in parts]), view)


def test_every_rank_has_the_mean_of_the_ranks_metrics(ranks: list[dict[str, Any]]) -> None:
    assert [rank["metrics"] for rank in ranks] == [{"loss": 7.5, "largest": (7 + 15) / 2}] * 2
    assert metrics_of_a_step() == {"loss": 7.5, "largest": 15}


def test_broadcast_and_any_rank_return_the_same_on_every_rank(ranks: list[dict[str, Any]]) -> None:
    assert [rank["broadcast"] for rank in ranks] == ["from rank 0"] * 2
    assert [rank["any_rank"] for rank in ranks] == [[True, False]] * 2


def test_the_environments_of_torchrun_and_srun_are_read() -> None:
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
    assert process_info(torchrun | {"MASTER_PORT": "1"}) == ProcessInfo(3, 4, 1, 2, "a", 1, agent_store=False)
    srun = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "n[07-8]"}
    found = process_info(srun | {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0"})
    assert found == ProcessInfo(1, 2, 0, None, "n07", 20120, agent_store=False)
    there = {"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "0"}
    assert process_info(srun | there | {"SSL_STUDY_STEP": "12.0"}) == found
    assert process_info(srun | there | {"SSL_STUDY_STEP": "11.0"}) is None  # the mark of another step
    assert process_info(srun | there | {"SLURM_PTY_PORT": "1"}) is None  # typed in the terminal of an interactive step
    assert process_info(srun | there | {"SLURM_PTY_PORT": "1", "SLURM_TASK_PID": str(os.getpid())}) == found
    assert process_info({}) is None
    assert process_info({"SLURM_JOB_ID": "12", "SLURM_NTASKS": "2"}) is None  # a batch script is one process


@pytest.mark.parametrize(
    ("nodes", "first"), [("a", "a"), ("a1,b2", "a1"), ("gpu[003-005,9]", "gpu003"), ("r[1,3-4]-ib,x", "r1-ib")]
)
def test_the_first_host_of_a_list_is_found(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_a_rank_that_waits_for_the_others_prints_a_notice() -> None:
    code = """if True:
        from ssl_pkg.distributed import process_group
        process_group._NOTICE_SECONDS = 0.1
        with process_group.process_group(process_group.ProcessInfo(1, 3, 0, None, "127.0.0.1", 1, agent_store=False)):
            pass
    """
    rank = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        assert rank.stderr
        notice = next(line for line in rank.stderr if line.startswith("ssl_pkg:"))
    finally:
        rank.kill()
        rank.communicate()
    assert notice.startswith("ssl_pkg: rank 1 waits for the other 2 of 3 processes to start.")
    assert "env -u SLURM_STEP_NUM_TASKS" in notice
