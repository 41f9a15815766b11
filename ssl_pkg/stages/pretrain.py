"""Pretraining of an encoder by a method that needs no labels."""

import logging
from dataclasses import replace
from functools import partial
from typing import Final, cast

import torch
from hydra.utils import get_class
from pydantic import ValidationError
from torch import nn
from torchvision.models import ResNet

from ssl_pkg.catalogue import ENCODER_FILE
from ssl_pkg.config.batch_sizes import peak_lr
from ssl_pkg.config.compose import describe_error
from ssl_pkg.config.schema import Config, MethodConfig
from ssl_pkg.config.training_length import training_length
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import Split, holdout
from ssl_pkg.data.stl10 import STL10
from ssl_pkg.distributed.collectives import rank, world_size
from ssl_pkg.distributed.process_group import process_group
from ssl_pkg.distributed.process_info import process_info
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.effective_rank import effective_rank
from ssl_pkg.evaluation.forward import Array, outputs
from ssl_pkg.evaluation.knn import knn_row
from ssl_pkg.hardware.prepare import Hardware, prepare
from ssl_pkg.methods.base import Method
from ssl_pkg.methods.supervised import Supervised
from ssl_pkg.models.encoder import build_encoder, to_device
from ssl_pkg.models.sync_batch_norm import synchronise_batch_norm
from ssl_pkg.rows import Row
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.run.worker_session import WorkerSession
from ssl_pkg.stages.artifacts import export_weights, weights_facts, write_contact_sheet
from ssl_pkg.training.batches import ViewBatches
from ssl_pkg.training.ddp import distributed_loss
from ssl_pkg.training.loop import fit
from ssl_pkg.training.optimizers import build_optimizer, lr_schedule
from ssl_pkg.training.step import Task

# torch has no class for these errors
_NO_MEMORY: Final = ("can't allocate memory", "Storage size calculation overflowed")


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Trains config.method and writes its encoder."""
    process = process_info()
    hardware = prepare(config, process)
    with process_group(process):
        _run(config, hardware, interrupt_flag)


def _run(config: Config, hardware: Hardware, interrupt_flag: InterruptFlag) -> None:
    assert config.method is not None  # checked in config/schema.py
    dataset, resolution = open_dataset(config.data), config.budget.resolution
    task = training(config, dataset, hardware)
    if rank():
        fit(WorkerSession(config, hardware, interrupt_flag), task, extra_state=None)
        return
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        write_contact_sheet(session, [dataset.train, dataset.test], dataset.unlabeled, dataset.classes)
        length = training_length(config, len(_split(config, dataset)))
        if length.passes > 1:
            session.reporter.message(str(length))
        model, encoder = task.model, task.model.encoder
        fit(session, replace(task, validate=partial(_validate, session, model, dataset)), extra_state=None)
        rows = [_knn(config, _embeddings(session, model, dataset), dataset)]
        facts = weights_facts(session, dataset, config.method.name, None, resolution)
        export_weights(session, ENCODER_FILE, encoder, facts, rows)
        session.finish(
            method=config.method.name, adaptation=None, classes=dataset.classes, resolution=resolution,
            rows=rows, weights=encoder.state_dict(), training=length.record(),
        )  # fmt: skip


def training(config: Config, dataset: STL10, hardware: Hardware) -> Task:
    """The training of config.method from random weights, without validation. Raises BadInput on a contradiction."""
    assert config.method is not None  # checked in config/schema.py
    split = _split(config, dataset)
    length = training_length(config, len(split))
    batches = ViewBatches(
        split,
        config.method.views,
        resolution=config.budget.resolution,
        batch_size=config.method.batch_size,
        passes=length.passes,
        seed=config.seed,
        device=hardware.device,
        resident_gb=config.data.resident_gb,
        compiles=hardware.compiles,
    )
    model, optimizer = build_method(config.method, config.seed), config.method.optimizer
    if len(config.method.views) != model.views:
        raise BadInput(
            f"method.views has {len(config.method.views)} entries, and {config.method.name} takes {model.views}"
        )
    module = cast(nn.Module, model)
    if model.sync_batch_norm:
        synchronise_batch_norm(module)
    to_device(module, hardware.device)
    if hardware.compiles:
        for network in (part for part in module.modules() if isinstance(part, ResNet)):
            network.compile(dynamic=False)  # in place, so that the names in the state dict stay
    peak = peak_lr(optimizer.base_lr, optimizer.lr_scaling, config.method.batch_size)
    return Task(
        phase="train",
        model=model,
        loss=distributed_loss(model) if world_size() > 1 else model.loss,
        optimizer=build_optimizer(
            optimizer.name,
            model.parameter_groups(),
            weight_decay=optimizer.weight_decay,
            momentum=optimizer.momentum,
        ),
        lr=lr_schedule(peak, config.method.warmup_epochs, length.steps, batches.steps_per_epoch),
        batch=batches,
        indices=batches.indices,
        steps=length.steps,
        steps_per_epoch=batches.steps_per_epoch,
    )


def _split(config: Config, dataset: STL10) -> Split:
    """The images of the training."""
    assert config.method is not None  # checked in config/schema.py
    return dataset.train if config.method.split == "train" else dataset.unlabeled


def build_method(config: MethodConfig, seed: int) -> Method:
    """The method that config.model's `_target_` names, with random weights that depend only on `seed`.

    Raises BadInput if a field of config.model is unknown, has a wrong type or an impossible value.
    """
    fields = dict(config.model)
    target = _method_class(str(fields.pop("_target_", None)))
    torch.manual_seed(seed)
    encoder = build_encoder()
    try:
        return cast(Method, target(encoder=encoder, batch_size=config.batch_size, **fields))
    except ValidationError as error:
        raise BadInput(f"method.model: {describe_error(error)}") from error
    except RuntimeError as error:
        if not any(reason in str(error) for reason in _NO_MEMORY):
            raise
        reason = "method.model is too large for this machine's memory: give smaller layers or a shorter queue"
        raise BadInput(reason) from error


def _method_class(name: str) -> type[nn.Module]:
    """The class that `_target_` names. Raises BadInput if there is none, or if it is not a method for pretraining."""
    logger = logging.getLogger("hydra.utils")  # logs the error too, which is then two messages
    enabled, logger.disabled = logger.disabled, True
    try:
        target = get_class(name)
    except (ImportError, ValueError) as error:
        raise BadInput(f"method.model._target_ names no class: {error}") from error
    finally:
        logger.disabled = enabled
    if not issubclass(target, nn.Module) or not hasattr(target, "after_step") or issubclass(target, Supervised):
        raise BadInput(f"method.model._target_={name} is not a method: give one like ssl_pkg.methods.simclr.SimCLR")
    return target


def _validate(session: Session, model: Method, dataset: STL10, epoch: int) -> dict[str, float]:
    if epoch % session.config.pretrain.knn_every:
        return {}
    embeddings = _embeddings(session, model, dataset)
    value = _knn(session.config, embeddings, dataset)["value"]
    return {} if value is None else {"knn": float(value), "effective_rank": effective_rank(embeddings)}


def _embeddings(session: Session, model: Method, dataset: STL10) -> Array:
    """The embeddings of labelled train."""
    return outputs(
        model.encoder, dataset.train, session.config.budget.resolution, session.hardware.device,
        partial(session.report_or_stop, "validate"),
    )  # fmt: skip


def _knn(config: Config, features: Array, dataset: STL10) -> Row:
    """kNN accuracy on the holdout split of labelled train, because test is for the final evaluation only."""
    labels = dataset.train.labels
    bank, queries = holdout(labels, config.probe.validation_fraction)
    return knn_row(
        "knn_validation", features[bank], labels[bank], features[queries], labels[queries], config=config.pretrain
    )
