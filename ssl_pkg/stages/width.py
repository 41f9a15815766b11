"""The width of a final model's optimum."""

import copy
from collections.abc import Callable
from functools import cache, partial

from torch import nn

from ssl_pkg.augment.views import resize
from ssl_pkg.catalogue import LANDSCAPE
from ssl_pkg.config.schema import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import Split, balanced
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.evaluation.probe import LinearProbe, fit_head
from ssl_pkg.evaluation.width.measures import UnitResult, collect, head_inputs, head_units, network_units
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import without_classifier
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.resume import CheckpointMetadata
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import npz, refuse_other_classes, source_classifier

NOISE_SEED = 0  # the same for every model, independent of the run's seed, so that models can be compared


class WidthCheckpoint(CheckpointMetadata):
    """The fields of a checkpoint of this stage: the results of the finished units by name, and the notes."""

    results: dict[str, UnitResult]
    notes: list[str]


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Takes all measures on a fixed unaugmented subset of labelled train.

    For a probe, also on its head: at the penalty that was chosen, and at width.common_l2, the same for all probes.

    A checkpoint is saved after each unit of work, so that a resumed run continues with the next unit.
    """
    dataset, hardware = open_dataset(config.data), prepare(config)
    classifier, source = source_classifier(config)
    refuse_other_classes(config, dataset, source)
    classifier.to(hardware.device)
    chosen = balanced(dataset.train.labels, config.width.images)
    pixels, labels = dataset.train.load(chosen, hardware.device)
    images = resize(pixels, source["resolution"])
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        checkpoint = session.resume.read(WidthCheckpoint)
        results = dict(checkpoint.results) if checkpoint else {}
        notes = list(checkpoint.notes) if checkpoint else []
        phase, total = "prepare", 1

        def tick() -> None:
            session.report_or_stop(phase, len(results), total)

        settings = config.width
        units = network_units(classifier, images, labels, settings, seed=NOISE_SEED, tick=tick)
        if source["adaptation"] == "probe":
            inputs = cache(partial(head_inputs, classifier, images, settings.batch_size))

            def common_head() -> nn.Module:
                probe = _refit(classifier, dataset.train, source["resolution"], settings.common_l2, tick)
                notes[:] = probe.notes("train with width.common_l2")
                head = copy.deepcopy(classifier.get_submodule("fc"))
                head.load_state_dict(probe.head)
                return head

            units_of = partial(head_units, labels=labels, config=settings, seed=NOISE_SEED, tick=tick)
            units += units_of(lambda: (classifier.get_submodule("fc"), inputs()), penalty="chosen")
            units += units_of(lambda: (common_head(), inputs()), penalty="common")
        total = len(units)
        for unit in units:
            if unit.name not in results:
                phase = unit.name
                tick()
                results[unit.name] = unit.measure()
                session.save(len(results), {"results": results, "notes": notes})
        rows, landscape = collect(results[unit.name] for unit in units)
        write_atomic(session.file(LANDSCAPE.file), npz(**landscape))
        session.finish(
            method=source["method"],
            adaptation=source["adaptation"],
            classes=source["classes"],
            resolution=source["resolution"],
            rows=rows,
            notes=notes,
        )


def _refit(model: nn.Module, train: Split, resolution: int, l2: float, tick: Callable[[], None]) -> LinearProbe:
    """The last layer of `model`, a probe, fitted again on the same features with the penalty `l2`."""
    device = next(model.parameters()).device
    features = outputs(without_classifier(model), train, resolution, device, lambda done, count: tick())
    return fit_head(features, train.labels, l2)
