"""What the stages share: where a model comes from, and what a final model leaves."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from ssl_pkg.config import RANDOM, Config
from ssl_pkg.data.stl10 import STL10
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.accuracy import Row, classification
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.models.encoder import build_encoder, load_into, load_weights, move, save_weights
from ssl_pkg.runs import write_atomic
from ssl_pkg.source import source_result
from ssl_pkg.training.session import Session


def source_encoder(config: Config) -> tuple[nn.Module, str, int]:
    """The encoder to probe or to fine-tune, its method and its resolution.

    `random` is the network that a pretraining with this seed starts from.
    """
    torch.manual_seed(config.seed)
    encoder = build_encoder()
    if config.source == RANDOM:
        return encoder, RANDOM, config.budget.resolution
    result = source_result(config)
    path = _artifact(config, "encoder.safetensors", "a pretraining")
    state = load_weights(path)
    load_into(encoder, state, path)
    return encoder, str(result["method"]), int(result["resolution"])


def source_classifier(config: Config) -> tuple[nn.Module, dict[str, Any]]:
    """The final model to evaluate, and the result of the run that left it."""
    if config.source == RANDOM:
        raise BadInput(f"stage={config.stage} evaluates a final model: give source= the run directory that holds one")
    result = source_result(config)
    path = _artifact(config, "model.safetensors", "a supervised pretraining, a probe or a fine-tuning")
    state = load_weights(path)
    classifier: nn.Module = resnet18(weights=None, num_classes=len(result["classes"]))
    load_into(classifier, state, path)
    return classifier.eval(), result


def refuse_other_classes(config: Config, dataset: STL10, source: dict[str, Any]) -> None:
    """Raises BadInput if the images' labels are not those of the source model: its accuracy would mean nothing."""
    if list(dataset.classes) != source["classes"]:
        raise BadInput(
            f"data.root={config.data.root} has the classes {', '.join(dataset.classes)}, and source={config.source} "
            f"was trained on {', '.join(source['classes'])}: give the data.root that it was trained on"
        )


def _artifact(config: Config, name: str, left_by: str) -> Path:
    path = Path(str(config.source)) / name
    if not path.is_file():
        raise BadInput(f"source={config.source} has no {name}: stage={config.stage} goes on from {left_by}")
    return path


def finish_classifier(
    session: Session,
    classifier: dict[str, Tensor],
    dataset: STL10,
    *,
    model: str,
    method: str,
    resolution: int,
    rows: list[Row],
    **more: Any,
) -> None:
    """Leaves a final model: its weights, its predictions on test, and the run's result.

    classifier: the state dict of torchvision's resnet18(num_classes=C).
    """
    network: nn.Module = resnet18(weights=None, num_classes=len(dataset.classes))
    network.load_state_dict(classifier)
    move(network, session.hardware.device)
    logits = outputs(
        network, dataset.test, resolution, session.hardware.device, lambda done, total: session.at("test", done, total)
    )
    facts = {"method": method, "resolution": resolution, "classes": list(dataset.classes)}
    save_weights(session.file("model.safetensors"), network, facts)
    write_atomic(session.file("predictions.npz"), npz(logits=logits, labels=dataset.test.labels))
    session.finish(
        model=model,
        method=method,
        classes=dataset.classes,
        resolution=resolution,
        rows=[*classification("test", logits, dataset.test.labels, dataset.classes), *rows],
        weights=network.state_dict(),
        **more,
    )


def npz(**arrays: Any) -> bytes:
    """The arrays as the bytes of a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
