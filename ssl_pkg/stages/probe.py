"""The linear probe of a frozen encoder."""

from functools import partial
from math import nan

import torch

from ssl_pkg.config import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import holdout
from ssl_pkg.evaluation.forward import predict
from ssl_pkg.evaluation.probe import fit_probe
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import to_device
from ssl_pkg.rows import row
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
            rows=[
                row(
                    "validation",
                    "accuracy",
                    max((accuracy for _, accuracy in probe.tried), default=nan),
                    held,
                    reason=probe.reason or "",
                ),
                row("validation", "l2", probe.l2, held, reason=probe.reason or ""),
            ],
            tried=[{"l2": l2, "accuracy": accuracy} for l2, accuracy in probe.tried],
        )
