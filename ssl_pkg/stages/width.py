"""The width of the optimum at which a final model stands."""

from functools import partial

from ssl_pkg.augment.views import resize
from ssl_pkg.catalogue import LANDSCAPE
from ssl_pkg.config import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import balanced
from ssl_pkg.evaluation.width.measures import UnitResult, collect, width_units
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.resume import CheckpointMetadata
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import npz, refuse_other_classes, source_classifier

NOISE_SEED = 0  # the same for every model, independent of the run's seed, so that models can be compared


class WidthCheckpoint(CheckpointMetadata):
    """The fields of a checkpoint of this stage: the results of the finished units, by name."""

    results: dict[str, UnitResult]


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Takes all measures on a fixed unaugmented subset of labelled train. For a probe, also on its head.

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
        phase, total = "prepare", 1

        def tick() -> None:
            session.report_or_stop(phase, len(results), total)

        measure = partial(width_units, classifier, images, labels, config.width, seed=NOISE_SEED, tick=tick)
        units = measure(scope="network")
        if source["adaptation"] == "probe":
            units += measure(scope="head")
        total = len(units)
        for unit in units:
            if unit.name not in results:
                phase = unit.name
                tick()
                results[unit.name] = unit.measure()
                session.save(len(results), {"results": results})
        rows, landscape = collect(results[unit.name] for unit in units)
        write_atomic(session.file(LANDSCAPE.file), npz(**landscape))
        session.finish(
            method=source["method"],
            adaptation=source["adaptation"],
            classes=source["classes"],
            resolution=source["resolution"],
            rows=rows,
        )
