"""The linear probe of a frozen encoder."""

from dataclasses import asdict
from functools import partial

import torch

from ssl_pkg.config import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import holdout
from ssl_pkg.evaluation.accuracy import wilson
from ssl_pkg.evaluation.forward import predict
from ssl_pkg.evaluation.probe import LinearProbe, fit_probe
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import to_device
from ssl_pkg.rows import Row, row, unmeasured
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import finish_classifier, source_encoder


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Embeds labelled train, fits the probe on the embeddings, and writes encoder and probe as one classifier."""
    dataset, hardware = open_dataset(config.data), prepare(config)
    encoder, method, resolution = source_encoder(config)
    to_device(encoder, hardware.device)
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        features = predict(
            encoder,
            dataset.train,
            resolution,
            hardware.device,
            partial(session.report_or_stop, "embed"),
        )
        probe = fit_probe(features, dataset.train.labels, config.probe, partial(session.report_or_stop, "fit"))
        if probe.reason:  # its weights are nan, so that later stages report missing values, not wrong ones
            session.reporter.message(f"no probe can be fitted: {probe.reason}")
        head = {"fc.weight": torch.from_numpy(probe.weight), "fc.bias": torch.from_numpy(probe.bias)}
        held = len(holdout(dataset.train.labels, config.probe.validation_fraction)[1])
        finish_classifier(
            session,
            encoder.state_dict() | head,
            dataset,
            method=method,
            adaptation="probe",
            resolution=resolution,
            rows=_choice(probe, held),
            tried=[asdict(trial) for trial in probe.tried],
        )


def _choice(probe: LinearProbe, count: int) -> list[Row]:
    """Accuracy and log loss of the chosen penalty on the holdout split of `count` images, and the penalty."""
    chosen = probe.chosen
    if chosen is None:
        return [unmeasured("validation", metric, count, probe.reason or "") for metric in ("accuracy", "nll", "l2")]
    interval = wilson(round(chosen.accuracy * count), count)
    return [
        row("validation", "accuracy", chosen.accuracy, count, interval),
        row("validation", "nll", chosen.log_loss, count),
        row("validation", "l2", chosen.l2, count),
    ]
