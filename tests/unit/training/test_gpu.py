"""Tests that need a GPU: no synchronisation within a step, CUDA graphs, compiled networks."""

import io
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.hardware.prepare import Hardware, prepare
from ssl_pkg.stages.pretrain import training
from ssl_pkg.training.step import Step, Task

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic"
    generate(root, Sizes(train_per_class=16, test_per_class=5, unlabeled=160, ood_per_class=3))
    return root


def built(method: str, data: Path, *more: str) -> tuple[Config, Task, Hardware]:
    line = [
        "stage=pretrain",
        f"method={method}",
        f"data.root={data}",
        f"run_dir={data.parent / 'run'}",
        "budget=tiny",
        *more,
    ]
    config = load_config(line)
    hardware = prepare(config)
    return config, training(config, open_dataset(config.data), hardware), hardware


@pytest.mark.parametrize("choice", ["never", "always"])
@pytest.mark.parametrize("method", ["simclr", "byol", "moco"])
def test_a_step_does_not_synchronise_with_the_gpu(method: str, choice: str, data: Path) -> None:
    _, task, hardware = built(method, data, f"compile={choice}")
    advance = Step(task, hardware)
    advance(0)  # the first step may synchronise
    try:
        torch.cuda.set_sync_debug_mode("error")
        for step in (1, 2, 3):
            metrics = advance(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(metrics["loss"])


@pytest.mark.parametrize("choice", ["never", "always"])
@pytest.mark.parametrize("method", ["simclr", "byol", "moco"])
def test_a_captured_step_has_the_bits_of_an_eager_one(method: str, choice: str, data: Path) -> None:
    """The losses and weights equal those of kernels that are launched one by one."""
    trained_by = []
    for captures in (True, False):
        _, task, hardware = built(method, data, f"compile={choice}")
        advance = Step(task, hardware)
        if not captures:
            monkeypatched = cast(Any, advance)
            monkeypatched._forward_backward = monkeypatched._eager
        losses = [advance(step)["loss"] for step in range(4)]
        trained_by.append([*losses, *cast(nn.Module, task.model).state_dict().values()])
    assert all(map(torch.equal, *trained_by))


def test_a_compiled_network_has_the_loss_and_the_names_of_the_eager_one(data: Path) -> None:
    losses, names = [], []
    for choice in ("never", "always"):
        _, task, hardware = built("simclr", data, f"compile={choice}", "precision=float32")
        losses.append(float(Step(task, hardware)(0)["loss"]))
        names.append(list(task.model.encoder.state_dict()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert names[0] == names[1]


@pytest.mark.parametrize("precision", ["auto", "float16"])
@pytest.mark.parametrize("choice", ["never", "always"])
@pytest.mark.parametrize("method", ["simclr", "byol", "moco"])
def test_a_resumed_training_ends_with_the_same_bits(method: str, choice: str, precision: str, data: Path) -> None:
    line = (method, data, f"compile={choice}", f"precision={precision}")
    undisturbed = trained(*line, steps=6)
    assert all(map(torch.equal, trained(*line, steps=6), undisturbed)), "the same training twice"
    assert all(map(torch.equal, trained(*line, steps=6, interrupted_after=3), undisturbed))


def trained(method: str, data: Path, *more: str, steps: int, interrupted_after: int = 0) -> list[Tensor]:
    """The method's state after `steps` steps, after `interrupted_after` of which it is rebuilt from a checkpoint."""
    from torch._inductor.utils import clear_caches

    saved, start = io.BytesIO(), 0
    for end in filter(None, (interrupted_after, steps)):
        torch._dynamo.reset()  # as in a new process, which has only the cache on disk
        clear_caches()
        _, task, hardware = built(method, data, *more)
        module, advance = cast(nn.Module, task.model), Step(task, hardware)
        if start:
            saved.seek(0)
            for part, state in zip(
                (module, task.optimizer, advance.scaler), torch.load(saved, map_location="cpu"), strict=True
            ):
                part.load_state_dict(state)
        for step in range(start, end):
            advance(step)
        saved, start = io.BytesIO(), end
        torch.save([part.state_dict() for part in (module, task.optimizer, advance.scaler)], saved)
    return [tensor.cpu() for tensor in module.state_dict().values()]
