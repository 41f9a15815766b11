"""Embeddings of train and test by a final model, and their t-SNE maps."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_pkg.config import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import Split, balanced
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.accuracy import not_finite, proportion
from ssl_pkg.evaluation.forward import Array, predict
from ssl_pkg.evaluation.knn import knn_predict
from ssl_pkg.evaluation.tsne import aligned_frames, tsne, unmappable
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import to_device, without_classifier
from ssl_pkg.rows import Row, unmeasured
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import compact, npz, refuse_other_classes, source_classifier


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Leaves the average pool's output (512) of train and test, one joint map of both, and kNN accuracy on test.

    Of a fine-tuned model also the maps of the snapshots that its fine-tuning left.
    """
    dataset, hardware = open_dataset(config.data), prepare(config)
    classifier, source = source_classifier(config)
    refuse_other_classes(config, dataset, source)
    resolution = source["resolution"]
    encoder = without_classifier(classifier)
    to_device(encoder, hardware.device)
    snapshots = _snapshots(Path(str(config.source)) / "embeddings.npz")
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:

        def embed(split: Split) -> Array:
            phase = f"embed {split.name}"
            return predict(
                encoder,
                split,
                resolution,
                hardware.device,
                partial(session.report_or_stop, phase),
            )

        train, test = embed(dataset.train), embed(dataset.test)
        train_labels, test_labels = dataset.train.labels, dataset.test.labels
        content = npz(
            train=compact(train),
            train_labels=train_labels,
            test=compact(test),
            test_labels=test_labels,
        )
        write_atomic(session.file("embeddings.npz"), content)
        if reason := not_finite("embeddings", np.concatenate([train, test])):
            rows = [unmeasured("knn", "accuracy", len(test), reason)]
        else:
            predicted = knn_predict(
                train, train_labels, test, config.pretrain.knn_neighbours, config.pretrain.knn_temperature
            )
            rows = [proportion("knn", "accuracy", predicted == test_labels)]

        session.report_or_stop("t-SNE", 0, 1)
        shown_train = balanced(train_labels, config.embed.points)
        shown_test = balanced(test_labels, config.embed.points)
        shown = np.concatenate([train[shown_train], test[shown_test]])
        maps: dict[str, Any] = {}
        if reason := unmappable(shown):
            rows.append(unmeasured("tsne", "map", len(shown), reason))
        else:
            points = tsne(shown, config.embed.perplexity, config.seed)
            maps |= {"train": points[: len(shown_train)], "train_labels": train_labels[shown_train]}
            maps |= {"test": points[len(shown_train) :], "test_labels": test_labels[shown_test]}
        if snapshots is not None:
            found, missing = _map_frames(session, snapshots)
            maps, rows = maps | found, rows + missing
        write_atomic(session.file("tsne.npz"), npz(**maps))
        session.finish(
            method=source["method"],
            adaptation=source["adaptation"],
            classes=source["classes"],
            resolution=resolution,
            rows=rows,
        )


def _map_frames(session: Session, snapshots: dict[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    """The aligned maps of the frames that can be mapped, and a row that says why the others can't be."""
    frames, config = snapshots["frames"].astype(np.float32), session.config
    faults = [unmappable(frame) for frame in frames]
    usable = np.array([fault is None for fault in faults])
    rows, maps = [], {}
    if not usable.all():
        reasons = "; ".join(dict.fromkeys(fault for fault in faults if fault))
        reason = f"{int((~usable).sum())} of {len(frames)} frames have no map: {reasons}"
        rows.append(unmeasured("tsne", "frames", len(snapshots["labels"]), reason))
    if usable.any():
        maps["frames"] = aligned_frames(
            frames[usable],
            config.embed.perplexity,
            config.seed,
            partial(session.report_or_stop, "t-SNE frames"),
        )
        maps |= {"frame_steps": snapshots["steps"][usable], "frame_labels": snapshots["labels"]}
    return maps, rows


def _snapshots(file: Path) -> dict[str, Any] | None:
    """The frames that a fine-tuning left, or None for a model that wasn't fine-tuned."""
    if not file.exists():
        return None
    try:
        with np.load(file) as content:
            found = {name: content[name] for name in ("frames", "steps", "labels")}
        if found["frames"].ndim != 3 or found["frames"].shape[:2] != (len(found["steps"]), len(found["labels"])):
            raise ValueError(f"frames of shape {found['frames'].shape}")
        return found
    except Exception as error:  # a damaged archive raises zipfile's, zlib's and other errors
        raise BadInput(f"{file} does not hold the frames of a fine-tuning ({error}): make that run again") from error
