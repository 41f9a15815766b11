"""`python -m bench.same_images`: pretrains lightly's SimCLR on as many images as a SimCLR of ours sees.

The arguments are those of `ssl-study-stage`. The run directory is one of the stage `pretrain`, so that the project's
own stages evaluate lightly's encoder as they evaluate ours. Projection head, views, loss, optimizer and learning rate
schedule are lightly's. The ResNet-18 is this project's, because torchvision's takes twice as long. The settings are
those of the configuration: number and size of the images, batch size, temperature, strength of the views, learning
rate, warm-up and weight decay. An interrupted training starts again from the beginning.
"""

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train", "bench")

import sys
from collections.abc import Iterator
from typing import Any, Final

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.models.utils import get_weight_decay_parameters
from lightly.transforms.simclr_transform import SimCLRTransform
from lightly.utils.lars import LARS
from lightly.utils.scheduler import CosineWarmupScheduler
from torch import nn
from torch.utils.data import DataLoader

from bench.baselines import PillowImages
from bench.timing import exit_status
from ssl_pkg.augment.operations import MEAN, STD
from ssl_pkg.catalogue import ENCODER_FILE
from ssl_pkg.config.batch_sizes import peak_lr
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import Config, MethodConfig
from ssl_pkg.config.training_length import training_length
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import Split
from ssl_pkg.errors import BadInput
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import EMBEDDING_DIM, build_encoder, to_device
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import export_weights, weights_facts

NAME: Final = "lightly"


def main() -> int:
    """Trains, and writes the encoder and the result."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    config = load_config(["stage=pretrain", "method=simclr", *arguments])
    assert config.method is not None  # checked in config/schema.py
    if config.method.name != "simclr":
        raise BadInput(f"method={config.method.name}: leave it out, because this is lightly's SimCLR")
    dataset, hardware = open_dataset(config.data), prepare(config)
    torch.manual_seed(config.seed)
    length = training_length(config, len(dataset.unlabeled))
    with Session(config, hardware, InterruptFlag(), dataset.manifest) as session:
        encoder, settings = build_encoder(), config.method.model
        head = SimCLRProjectionHead(EMBEDDING_DIM, settings["projector_hidden"], settings["projector_out"])
        model, criterion = nn.Sequential(encoder, head), NTXentLoss(settings["temperature"])
        to_device(model, hardware.device)
        optimizer, schedule = _optimizer(config.method, model, length.steps)
        batches = _batches(config, dataset.unlabeled)
        for step in range(length.steps):
            session.report("train", step, length.steps)
            views = [
                view.to(hardware.device, memory_format=torch.channels_last, non_blocking=True) for view in next(batches)
            ]
            with hardware.autocast():
                projections = [model(view).float() for view in views]
            loss = criterion(*projections)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            if (step + 1) % config.log_every == 0:
                session.log(
                    {"step": step + 1, "phase": "train", "seconds": session.seconds(), "loss": float(loss.detach())}
                )
        facts = weights_facts(session, dataset, NAME, None, config.budget.resolution)
        export_weights(session, ENCODER_FILE, encoder, facts, [])
        session.finish(
            method=NAME, adaptation=None, classes=dataset.classes, resolution=config.budget.resolution,
            rows=[], weights=encoder.state_dict(), training=length.record(),
        )  # fmt: skip
    return 0


def _optimizer(config: MethodConfig, model: nn.Module, steps: int) -> tuple[LARS, CosineWarmupScheduler]:
    """LARS without decay and adaptation of biases and normalisations, with a warm-up and a cosine to 0 over steps."""
    decayed, others = get_weight_decay_parameters([model])
    settings = config.optimizer
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = LARS(
        groups, lr=peak_lr(settings.base_lr, settings.lr_scaling, config.batch_size), momentum=settings.momentum
    )
    warmup = round(config.warmup_epochs * steps / config.epochs)
    return optimizer, CosineWarmupScheduler(optimizer, warmup, steps, end_value=0.0)


def _batches(config: Config, split: Split) -> Iterator[Any]:
    """Yields batches of two views endlessly, in a new order in each epoch."""
    assert config.method is not None
    view = config.method.views[0]
    jitter = view.jitter
    if jitter is None:
        raise BadInput("method.views has no jitter, which lightly's transform always has: leave it as it is")
    transform = SimCLRTransform(
        input_size=config.budget.resolution,
        cj_prob=jitter.probability,
        cj_strength=1.0,
        cj_bright=jitter.brightness,
        cj_contrast=jitter.contrast,
        cj_sat=jitter.saturation,
        cj_hue=jitter.hue,
        min_scale=view.crop_area[0],
        random_gray_scale=view.grey,
        gaussian_blur=view.blur,
        hf_prob=view.flip,
        normalize={"mean": list(MEAN), "std": list(STD)},
    )
    loader = DataLoader(PillowImages(split, transform), config.method.batch_size, shuffle=True, drop_last=True)
    while True:
        yield from loader


if __name__ == "__main__":
    sys.exit(exit_status(main))
