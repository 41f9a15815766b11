"""Embeddings of train and test from a final model, and their t-SNE maps."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssl_pkg.catalogue import TSNE
from ssl_pkg.config.schema import Config
from ssl_pkg.data.images import Indices, Split, balanced
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.forward import Array, outputs
from ssl_pkg.evaluation.knn import knn_row
from ssl_pkg.evaluation.tsne import aligned_frames, map_accuracy, perplexity_for, trustworthiness, tsne, unmappable
from ssl_pkg.models.encoder import to_device, without_classifier
from ssl_pkg.rows import Row, row, unmeasured
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.resume import CheckpointMetadata
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import compact, finish_evaluation, npz, open_evaluation


class EmbedCheckpoint(CheckpointMetadata):
    """The fields of a checkpoint of this stage: the joint map, and the rows up to it."""

    maps: dict[str, Tensor]
    rows: list[Row]


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Writes embeddings (512) of train and test, a joint t-SNE map of both, and kNN accuracies on test.

    For a fine-tuned model, also the maps of its snapshots during fine-tuning. A checkpoint is saved after the joint
    map, so that a resumed run continues with the snapshots.
    """
    dataset, hardware, classifier, source = open_evaluation(config)
    resolution = source["resolution"]
    encoder = without_classifier(classifier)
    to_device(encoder, hardware.device)
    snapshots = _snapshots(Path(str(config.source)) / "embeddings.npz")
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:

        def embed(split: Split) -> _Embedded:
            report = partial(session.report_or_stop, f"embed {split.name}")
            return _Embedded(outputs(encoder, split, resolution, hardware.device, report), split.labels)

        if checkpoint := session.resume.read(EmbedCheckpoint):
            maps = {name: array.numpy() for name, array in checkpoint.maps.items()}
            rows = checkpoint.rows
        else:
            train, test = embed(dataset.train), embed(dataset.test)
            content = npz(
                train=compact(train.embeddings), train_labels=train.labels,
                test=compact(test.embeddings), test_labels=test.labels,
            )  # fmt: skip
            write_atomic(session.file("embeddings.npz"), content)
            maps, more = _map(session, train, test)
            rows = [knn_row("knn", *train, *test, config=config.pretrain), *more]
            session.save(1, {"maps": {name: torch.from_numpy(array) for name, array in maps.items()}, "rows": rows})
        if snapshots is not None:
            frames, missing = _map_frames(session, snapshots)
            maps, rows = maps | frames, rows + missing
        write_atomic(session.file(TSNE.file), npz(**maps))
        finish_evaluation(session, source, rows)


class _Embedded(NamedTuple):
    """A split's embeddings (n, 512) and labels (n,)."""

    embeddings: Array
    labels: Indices


def _map(session: Session, train: _Embedded, test: _Embedded) -> tuple[dict[str, Any], list[Row]]:
    """The joint map of train and test with its figures of merit, or a row with the reason why there is none.

    The maps of all models have the same seed, so that they differ only if the embeddings do.
    """
    cap, neighbours = session.config.embed.points, session.config.pretrain.knn_neighbours
    train, test = (_capped(split, cap) for split in (train, test))
    embeddings = np.concatenate([train.embeddings, test.embeddings])
    if reason := unmappable(embeddings):
        return {}, [unmeasured("tsne", "map", len(embeddings), reason)]
    points = tsne(embeddings, session.config.seed, session.hardware.threads, partial(session.report_or_stop, "t-SNE"))
    train_points, test_points = np.split(points, [len(train.labels)])
    neighbours = min(neighbours, (len(points) - 1) // 2)
    rows = [
        row("tsne", "perplexity", perplexity_for(len(points)), len(points)),
        row("tsne", "trustworthiness", trustworthiness(embeddings, points, neighbours), len(points)),
        map_accuracy(train_points, train.labels, test_points, test.labels, neighbours),
    ]
    maps = {"train": train_points, "train_labels": train.labels}
    return maps | {"test": test_points, "test_labels": test.labels}, rows


def _capped(split: _Embedded, cap: int | None) -> _Embedded:
    """A balanced subset of at most `cap` images; all of them if `cap` is None."""
    if cap is None:
        return split
    subset = balanced(split.labels, cap)
    return _Embedded(split.embeddings[subset], split.labels[subset])


def _map_frames(session: Session, snapshots: dict[str, Any]) -> tuple[dict[str, Any], list[Row]]:
    """The aligned maps of the frames that have one, and a row with the reason why the others have none."""
    frames = snapshots["frames"].astype(np.float32)
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
            session.config.seed,
            session.hardware.threads,
            partial(session.report_or_stop, "t-SNE frames"),
        )
        maps |= {"frame_steps": snapshots["steps"][usable], "frame_labels": snapshots["labels"]}
    return maps, rows


def _snapshots(file: Path) -> dict[str, Any] | None:
    """The snapshots of a fine-tuning, or None for another model. Raises BadInput if they are damaged."""
    if not file.exists():
        return None
    try:
        with np.load(file) as content:
            found = {name: content[name] for name in ("frames", "steps", "labels")}
        if found["frames"].ndim != 3 or found["frames"].shape[:2] != (len(found["steps"]), len(found["labels"])):
            raise ValueError(f"frames of shape {found['frames'].shape}")
        return found
    except Exception as error:  # a damaged archive raises zipfile's, zlib's and other errors
        raise BadInput(f"{file} is damaged ({error}): run the fine-tuning again") from error
