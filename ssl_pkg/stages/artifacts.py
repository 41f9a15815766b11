"""Parts that several stages share: loading the source model, and writing artifacts."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from ssl_pkg.augment.operations import MEAN, STD
from ssl_pkg.catalogue import ENCODER_FILE, FINAL_MODEL_FILE, PREDICTIONS, RANDOM
from ssl_pkg.config.schema import Config
from ssl_pkg.data.contact_sheet import contact_sheet
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.image_files import is_padded, preparation
from ssl_pkg.data.images import Split
from ssl_pkg.data.names import listed
from ssl_pkg.data.stl10 import STL10
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.accuracy import classification
from ssl_pkg.evaluation.forward import Array, outputs
from ssl_pkg.hardware.prepare import Hardware, prepare
from ssl_pkg.layout import SIDE
from ssl_pkg.models.encoder import build_encoder, to_device
from ssl_pkg.rows import Row
from ssl_pkg.run.directory import CONTACT_SHEET, model_name, write_atomic
from ssl_pkg.run.session import Session
from ssl_pkg.run.source import source_result
from ssl_pkg.run.weights import load_into, load_weights, save_weights
from ssl_pkg.stages.model_card import MODEL_CARD, licence, model_card


def source_encoder(config: Config) -> tuple[nn.Module, str, int]:
    """The encoder to probe or to fine-tune, its method and its resolution.

    For source=random, the encoder has the weights that a pretraining with this seed starts from. Raises BadInput if the
    source is missing or damaged.
    """
    torch.manual_seed(config.seed)
    encoder = build_encoder()
    if config.source == RANDOM:
        return encoder, RANDOM, config.budget.resolution
    result = source_result(config)
    path = _artifact(config, ENCODER_FILE, "a pretraining")
    state = load_weights(path)
    load_into(encoder, state, path)
    return encoder, str(result["method"]), int(result["resolution"])


def source_classifier(config: Config) -> tuple[nn.Module, dict[str, Any]]:
    """The final model to evaluate, in eval mode, and the result of its run. Raises BadInput as source_encoder does."""
    if config.source == RANDOM:
        raise BadInput(f"stage={config.stage} evaluates a final model: give source= the run directory of one")
    result = source_result(config)
    path = _artifact(config, FINAL_MODEL_FILE, "a probe or a fine-tuning")
    state = load_weights(path)
    classifier: nn.Module = resnet18(weights=None, num_classes=len(result["classes"]))
    load_into(classifier, state, path)
    return classifier.eval(), result


def refuse_other_classes(config: Config, dataset: STL10, source: dict[str, Any]) -> None:
    """Raises BadInput if the data set has other classes than the source model, whose accuracy would be meaningless."""
    found, wanted = list(dataset.classes), list(source["classes"])
    if found != wanted:
        sides = [("lacks", set(wanted).difference(found)), ("also has", set(found).difference(wanted))]
        parts = [f"{verb} {listed(sorted(names))}" for verb, names in sides if names]
        raise BadInput(
            f"data.root={config.data.root} has other classes than source={config.source} was trained on "
            f"({' and '.join(parts) or 'the same names in another order'}): give the data.root of the source"
        )


def open_evaluation(config: Config) -> tuple[STL10, Hardware, nn.Module, dict[str, Any]]:
    """The data set, the hardware, the final model to evaluate, and the result of the model's run.

    Raises BadInput as `source_classifier` and `refuse_other_classes` do.
    """
    dataset, hardware = open_dataset(config.data), prepare(config)
    classifier, source = source_classifier(config)
    refuse_other_classes(config, dataset, source)
    return dataset, hardware, classifier, source


def finish_evaluation(session: Session, source: dict[str, Any], rows: Sequence[Row], **more: Any) -> None:
    """Writes the result of the evaluation of a final model. source: the result of the model's run."""
    model = {name: source[name] for name in ("method", "adaptation", "classes", "resolution")}
    session.finish(**model, rows=rows, **more)


def _artifact(config: Config, name: str, made_by: str) -> Path:
    path = Path(str(config.source)) / name
    if not path.is_file():
        raise BadInput(f"source={config.source} has no {name}: stage={config.stage} starts from {made_by}")
    return path


def finish_classifier(
    session: Session,
    classifier: dict[str, Tensor],
    dataset: STL10,
    *,
    method: str,
    adaptation: str | None,
    resolution: int,
    rows: list[Row],
    predictions: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """Writes a final model: its weights, its predictions on test, and the run's result.

    classifier: the state dict of torchvision's resnet18(num_classes=C). predictions: further arrays for the file of the
    predictions.
    """
    network: nn.Module = resnet18(weights=None, num_classes=len(dataset.classes))
    network.load_state_dict(classifier)
    to_device(network, session.hardware.device)
    logits = outputs(
        network,
        dataset.test,
        resolution,
        session.hardware.device,
        partial(session.report_or_stop, "test"),
    )
    rows = [*classification("test", logits, dataset.test.labels, dataset.classes), *rows]
    facts = weights_facts(session, dataset, method, adaptation, resolution)
    export_weights(session, FINAL_MODEL_FILE, network, facts, rows)
    write_atomic(session.file(PREDICTIONS.file), npz(logits=logits, labels=dataset.test.labels, **(predictions or {})))
    session.finish(
        method=method,
        adaptation=adaptation,
        classes=dataset.classes,
        resolution=resolution,
        rows=rows,
        weights=network.state_dict(),
        **more,
    )


def export_weights(
    session: Session, name: str, network: nn.Module, facts: Mapping[str, Any], rows: Sequence[Row]
) -> None:
    """Writes the network's weights to the run's file `name`, and a model card. rows: of the run's result."""
    save_weights(session.file(name), network, facts)
    write_atomic(session.file(MODEL_CARD), model_card(name, facts, session.made_with, rows))


def write_contact_sheet(
    session: Session, labelled: Sequence[Split], unlabeled: Split | None, classes: Sequence[str]
) -> None:
    """Writes a picture of some images of each class, unless data.contact_sheet is false or the picture exists."""
    if session.config.data.contact_sheet and not (session.run.path / CONTACT_SHEET).exists():
        write_atomic(session.file(CONTACT_SHEET), contact_sheet(labelled, unlabeled, classes))


def preprocessing(manifest: Mapping[str, Any], resolution: int) -> dict[str, Any]:
    """The preprocessing that the encoder expects, in words and numbers.

    manifest: of the data set. The preprocessing has two steps. photograph: how a photograph becomes an image of the
    data set; for a set that is not packed, as `predict` does it. resize: how that image gets the network's resolution
    (`ssl_pkg.augment.views.resize`).
    """
    return {
        "photograph": preparation(SIDE, pad=is_padded(manifest.get("preparation"), SIDE) or False),
        "resolution": resolution,
        "resize": "the whole image to resolution x resolution, bilinear, antialias",
        "channels": "RGB",
        "range": "0 to 1 before normalization",
        "mean": MEAN,
        "std": STD,
    }


def weights_facts(
    session: Session, dataset: STL10, method: str, adaptation: str | None, resolution: int
) -> dict[str, Any]:
    """The facts in the metadata of exported weights, with which they can be used without this project."""
    known = {
        "model": model_name(method, adaptation),
        "stage": session.config.stage,
        "method": method,
        "adaptation": adaptation,
        "seed": session.config.seed,
        "data": dataset.manifest["name"],
        "classes": list(dataset.classes),
        "commit": session.made_with["commit"],
    }
    if session.config.source not in (None, RANDOM):
        source = source_result(session.config).get("data", known["data"])
        known |= {"source_data": source} if source != known["data"] else {}
    return known | licence(known)[0] | preprocessing(dataset.manifest, resolution)


def compact(embeddings: Array) -> npt.NDArray[np.floating[Any]]:
    """The embeddings in float16, or unchanged if a finite value is outside float16's range."""
    finite = embeddings[np.isfinite(embeddings)]
    fits = np.abs(finite).max(initial=0) <= np.finfo(np.float16).max
    return embeddings.astype(np.float16) if fits else embeddings


def npz(**arrays: Any) -> bytes:
    """The arrays as the bytes of a compressed .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
