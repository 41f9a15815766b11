"""The width of a final model's optimum."""

import copy
from collections.abc import Callable
from functools import cache, partial

from torch import Tensor, nn

from ssl_pkg.augment.views import resize
from ssl_pkg.catalogue import LANDSCAPE
from ssl_pkg.config.schema import Config
from ssl_pkg.config.stage_settings import Width
from ssl_pkg.data.images import Split, balanced
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.evaluation.probe import LinearProbe, fit_head
from ssl_pkg.evaluation.width.measures import Unit, UnitResult, collect, head_inputs, head_units, network_units
from ssl_pkg.models.encoder import without_classifier
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.resume import CheckpointMetadata
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import finish_evaluation, npz, open_evaluation

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
    dataset, hardware, classifier, source = open_evaluation(config)
    classifier.to(hardware.device)
    settings = config.width
    chosen = balanced(dataset.train.labels, settings.images)
    pixels, labels = dataset.train.load(chosen, hardware.device)
    images = resize(pixels, source["resolution"])
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        checkpoint = session.resume.read(WidthCheckpoint)
        results = dict(checkpoint.results) if checkpoint else {}
        notes = list(checkpoint.notes) if checkpoint else []
        progress = _Progress(session)
        units = network_units(classifier, images, labels, settings, seed=NOISE_SEED, tick=progress.tick)
        if source["adaptation"] == "probe":
            units += _head_units(
                classifier, dataset.train, images, labels, settings=settings, notes=notes, tick=progress.tick
            )
        for unit in units:
            if unit.name not in results:
                progress.begin(unit, len(results), len(units))
                results[unit.name] = unit.measure()
                session.save(len(results), {"results": results, "notes": notes})
        rows, landscape = collect(results[unit.name] for unit in units)
        write_atomic(session.file(LANDSCAPE.file), npz(**landscape))
        finish_evaluation(session, source, rows, notes=notes)


class _Progress:
    """Reports the unit that is being measured. Each report raises Interrupted if a signal has arrived."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._unit = ("prepare", 0, 1)

    def begin(self, unit: Unit, done: int, total: int) -> None:
        self._unit = (unit.name, done, total)
        self.tick()

    def tick(self) -> None:
        self._session.report_or_stop(*self._unit)


def _head_units(
    classifier: nn.Module,
    train: Split,
    images: Tensor,
    labels: Tensor,
    *,
    settings: Width,
    notes: list[str],
    tick: Callable[[], None],
) -> list[Unit]:
    """The measures of a probe's head, at both penalties. notes: gets those of the fit with the common penalty."""
    inputs = cache(partial(head_inputs, classifier, images, settings.batch_size))
    head = classifier.get_submodule("fc")

    def common() -> tuple[nn.Module, Tensor]:
        probe = _refit(classifier, train, images.shape[-1], settings.common_l2, tick)
        notes[:] = probe.notes("train with width.common_l2")
        refitted = copy.deepcopy(head)
        refitted.load_state_dict(probe.head)
        return refitted, inputs()

    units_of = partial(head_units, labels=labels, config=settings, seed=NOISE_SEED, tick=tick)
    return [*units_of(lambda: (head, inputs()), penalty="chosen"), *units_of(common, penalty="common")]


def _refit(model: nn.Module, train: Split, resolution: int, l2: float, tick: Callable[[], None]) -> LinearProbe:
    """The last layer of `model`, a probe, fitted again on the same features with the penalty `l2`."""
    device = next(model.parameters()).device
    features = outputs(without_classifier(model), train, resolution, device, lambda done, count: tick())
    return fit_head(features, train.labels, l2)
