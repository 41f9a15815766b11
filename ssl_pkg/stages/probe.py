"""The linear probe of a frozen encoder."""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from ssl_pkg.catalogue import FOLDS
from ssl_pkg.config.schema import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import Indices, can_hold_out, holdout
from ssl_pkg.data.stl10 import STL10
from ssl_pkg.evaluation.accuracy import accuracy, hits_of, over_folds, validation_rows
from ssl_pkg.evaluation.forward import Array, outputs
from ssl_pkg.evaluation.probe import LinearProbe, PenaltyTrial, fit_probe, no_probe
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import to_device
from ssl_pkg.rows import Dimensions, Row, row, unmeasured
from ssl_pkg.run.resume import CheckpointMetadata
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import finish_classifier, source_encoder


class ProbeCheckpoint(CheckpointMetadata):
    """The fields of a checkpoint of this stage: the finished probes, first that of all of train, then of each fold."""

    probes: list[dict[str, Any]]


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Embeds labelled train, fits the probe on the embeddings, and writes encoder and probe as one classifier.

    Where the data set has folds, a probe is also fitted on each fold and measured on test, which is STL-10's protocol
    (Coates, Lee and Ng 2011, section 4.1). A checkpoint is saved after each probe.
    """
    dataset, hardware = open_dataset(config.data), prepare(config)
    encoder, method, resolution = source_encoder(config)
    to_device(encoder, hardware.device)
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:

        def embedded(name: str) -> Array:
            report = partial(session.report_or_stop, f"embed {name}")
            return outputs(encoder, getattr(dataset, name), resolution, hardware.device, report)

        probe, *of_folds = _probes(session, embedded("train"), dataset)
        if probe.reason:  # its weights are nan, so that later stages report missing values, not wrong ones
            session.reporter.message(f"no probe can be fitted: {probe.reason}")
        notes = _notes(probe, of_folds)
        for note in notes:
            session.reporter.message(note)
        rows, hits = _on_test(of_folds, embedded("test"), dataset.test.labels) if of_folds else ([], {})
        held_count = len(holdout(dataset.train.labels, config.probe.validation_fraction)[1])
        finish_classifier(
            session,
            encoder.state_dict() | {f"fc.{name}": value for name, value in probe.head.items()},
            dataset,
            method=method,
            adaptation="probe",
            resolution=resolution,
            rows=[*_choice(probe, held_count), *rows],
            predictions=hits,
            tried=[asdict(trial) for trial in probe.tried],
            notes=notes,
        )


def _probes(session: Session, features: Array, dataset: STL10) -> list[LinearProbe]:
    """The probe of all of train, then that of each fold."""
    labels = dataset.train.labels
    checkpoint = session.resume.read(ProbeCheckpoint)
    found = [_from_state(state) for state in checkpoint.probes] if checkpoint else []
    parts = {"fit": np.arange(len(labels))} | {f"fit fold {number}": fold for number, fold in enumerate(dataset.folds)}
    for name, part in list(parts.items())[len(found) :]:
        session.reporter.begin_part(len(found) + 1, len(parts))
        if not can_hold_out(labels[part], len(dataset.classes)):
            found.append(no_probe(features, labels, "the fold has fewer than two images of a class"))
        else:
            report = partial(session.report_or_stop, name)
            found.append(fit_probe(features[part], labels[part], session.config.probe, report))
        session.save(len(found), {"probes": [_state(probe) for probe in found]})
    return found


def _on_test(probes: list[LinearProbe], features: Array, labels: Indices) -> tuple[list[Row], dict[str, Any]]:
    """The accuracy of each fold's probe on test, its mean and s.d. over folds, and the hits (F, n)."""
    rows, hits = [], []
    for fold, probe in enumerate(probes):
        dimensions: Dimensions = {"fold": fold}
        logits = probe.logits(features)
        hits.append(hits_of(logits, labels))
        if probe.reason:
            rows.append(unmeasured("folds", "accuracy", len(labels), probe.reason, dimensions))
        else:
            rows.append(accuracy("folds", "accuracy", logits, labels, dimensions=dimensions))
    return [*rows, *over_folds(rows, len(labels), "a fold has no probe")], {FOLDS: np.array(hits)}


def _notes(probe: LinearProbe, of_folds: list[LinearProbe]) -> list[str]:
    """A sentence for each probe whose fit did not converge."""
    fitted = {"all of train": probe} | {f"fold {number}": entry for number, entry in enumerate(of_folds)}
    return [note for part, entry in fitted.items() for note in entry.notes(part)]


def _choice(probe: LinearProbe, count: int) -> list[Row]:
    """Accuracy and log loss of the chosen penalty on the holdout split of `count` images, and the penalty."""
    chosen = probe.chosen
    if chosen is None:
        return [unmeasured("validation", metric, count, probe.reason or "") for metric in ("accuracy", "nll", "l2")]
    return [*validation_rows(chosen.accuracy, chosen.log_loss, count), row("validation", "l2", chosen.l2, count)]


def _state(probe: LinearProbe) -> dict[str, Any]:
    """The probe as a checkpoint holds it: tensors, numbers and texts."""
    tried = [asdict(trial) for trial in probe.tried]
    return {**probe.head, "l2": probe.l2, "tried": tried, "reason": probe.reason, "converged": probe.converged}


def _from_state(state: dict[str, Any]) -> LinearProbe:
    tried = [PenaltyTrial(**trial) for trial in state["tried"]]
    weight, bias = state["weight"].numpy(), state["bias"].numpy()
    return LinearProbe(weight, bias, state["l2"], tried, state["reason"], state["converged"])
