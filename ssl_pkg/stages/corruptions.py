"""Accuracy of a final model on corrupted test images."""

from functools import partial

import numpy as np
from torch import Tensor, from_numpy

from ssl_pkg.catalogue import CORRUPTIONS
from ssl_pkg.config.schema import Config
from ssl_pkg.data.images import balanced
from ssl_pkg.evaluation.corruptions import CLEAN, PUBLISHED, Condition, conditions, corruption_rows, hits_under
from ssl_pkg.models.encoder import to_device
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.resume import CheckpointMetadata
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import finish_evaluation, npz, open_evaluation


class CorruptionsCheckpoint(CheckpointMetadata):
    """The fields of a checkpoint of this stage: the hits (n,) int8 under the finished conditions, by name."""

    hits: dict[str, Tensor]


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Predicts a fixed subset of test under each condition. A checkpoint is saved after each condition."""
    dataset, hardware, classifier, source = open_evaluation(config)
    to_device(classifier, hardware.device)
    settings = config.corruptions
    chosen = balanced(dataset.test.labels, settings.images)
    measure = partial(
        hits_under, classifier, dataset.test, chosen, resolution=source["resolution"], device=hardware.device
    )
    planned = conditions(settings.severities)
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        checkpoint = session.resume.read(CorruptionsCheckpoint)
        found = dict(checkpoint.hits) if checkpoint else {}
        for number, condition in enumerate(planned, start=1):
            if str(condition) not in found:
                session.reporter.begin_part(number, len(planned))
                progress = partial(session.report_or_stop, str(condition))
                found[str(condition)] = from_numpy(measure(condition, on_batch=progress))
                session.save(len(found), {"hits": found})
        hits = {condition: found[str(condition)].numpy() for condition in planned}
        corrupted = [[hits[Condition(kind, severity)] for severity in settings.severities] for kind in PUBLISHED]
        write_atomic(session.file(CORRUPTIONS.file), npz(clean=hits[CLEAN], hits=np.array(corrupted)))
        kinds, severities = list(PUBLISHED), list(settings.severities)
        finish_evaluation(session, source, corruption_rows(hits), corruptions=kinds, severities=severities)
