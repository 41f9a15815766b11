"""What only a GPU can show: a step never waits for it, and a compiled network learns what the eager one does."""

import io
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ssl_pkg.compose import load_config
from ssl_pkg.config import Config
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
@pytest.mark.parametrize("method", ["supervised", "simclr", "byol", "moco"])
def test_a_step_does_not_wait_for_the_gpu(method: str, choice: str, data: Path) -> None:
    _, task, hardware = built(method, data, f"compile={choice}")
    advance = Step(task, hardware)
    advance(0)  # what is made once may wait
    try:
        torch.cuda.set_sync_debug_mode("error")
        for step in (1, 2, 3):
            metrics = advance(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(metrics["loss"])


@pytest.mark.parametrize("choice", ["never", "always"])
@pytest.mark.parametrize("method", ["supervised", "simclr", "byol", "moco"])
def test_a_recorded_step_is_the_launched_one(method: str, choice: str, data: Path) -> None:
    """The same losses and weights, to the bit, as by kernels that are launched one by one."""
    trained_by = []
    for records in (True, False):
        _, task, hardware = built(method, data, f"compile={choice}")
        advance = Step(task, hardware)
        if not records:
            monkeypatched = cast(Any, advance)
            monkeypatched._forward_backward = monkeypatched._eager
        losses = [advance(step)["loss"] for step in range(4)]
        trained_by.append([*losses, *cast(nn.Module, task.model).state_dict().values()])
    assert all(map(torch.equal, *trained_by))


def test_a_compiled_network_has_the_eager_ones_loss_and_names(data: Path) -> None:
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
def test_a_training_goes_on_from_its_checkpoint_with_the_same_bits(
    method: str, choice: str, precision: str, data: Path
) -> None:
    line = (method, data, f"compile={choice}", f"precision={precision}")
    undisturbed = trained(*line, steps=6)
    assert all(map(torch.equal, trained(*line, steps=6), undisturbed)), "the same training twice"
    assert all(map(torch.equal, trained(*line, steps=6, interrupted_after=3), undisturbed))


def trained(method: str, data: Path, *more: str, steps: int, interrupted_after: int = 0) -> list[Tensor]:
    """The method's tensors after so many steps; after the first part of them all is made anew."""
    from torch._inductor.utils import clear_caches

    kept, start = io.BytesIO(), 0
    for end in filter(None, (interrupted_after, steps)):
        torch._dynamo.reset()  # as another process finds it: only what lies on the disk is left
        clear_caches()
        _, task, hardware = built(method, data, *more)
        module, advance = cast(nn.Module, task.model), Step(task, hardware)
        if start:
            kept.seek(0)
            for part, state in zip(
                (module, task.optimizer, advance.scaler), torch.load(kept, map_location="cpu"), strict=True
            ):
                part.load_state_dict(state)
        for step in range(start, end):
            advance(step)
        kept, start = io.BytesIO(), end
        torch.save([part.state_dict() for part in (module, task.optimizer, advance.scaler)], kept)
    return [tensor.cpu() for tensor in module.state_dict().values()]
