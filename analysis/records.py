"""Values of config.yaml and provenance.json, which may lack any part, and the images that a run's files hold."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from analysis import names
from analysis.run import Run
from analysis.study import Study
from analysis.words import _, localized
from ssl_pkg.layout import IMAGE_BYTES, STL10

_SPLITS: Final = ("train", "test", "unlabeled")


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, or an empty mapping if it is none."""
    return value if isinstance(value, dict) else {}


def shown(value: Any) -> str:
    """A setting as text for people."""
    if isinstance(value, bool) or value is None:
        return {True: _("True"), False: _("False"), None: _("None")}[value]
    if isinstance(value, float):
        return localized(f"{value:g}")
    if isinstance(value, dict):
        return names.separated([f"{key} {shown(entry)}" for key, entry in value.items()])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return names.separated(list(map(shown, value)))
    return str(value)


def images_of(run: Run, split: str) -> int | None:
    """The number of images in a split of the data that the run read; None if it is not recorded."""
    files = mapping(mapping(run.provenance.get("data")).get("files"))
    found = mapping(files.get(f"{STL10}/{split}_X.bin")).get("bytes")
    return found // IMAGE_BYTES if isinstance(found, int) else None


def batch_size(run: Run) -> int | None:
    """The images of a batch of a pretraining, or of a final training on labels; None if it is not recorded."""
    size = run.training.get("batch_size")
    return size if isinstance(size, int) else None


def image_count(study: Study, evaluation: str) -> int:
    """The number of images of an evaluation, like `test`; 0 without a number of it."""
    counts = study.results.loc[study.results["evaluation"] == evaluation, "n"].dropna()
    return int(counts.max()) if len(counts) else 0


def class_count(study: Study) -> int:
    """The number of the models' classes; 0 if no complete run recorded them."""
    return max((len(run.classes) for run in study.complete()), default=0)


def split_sizes(study: Study) -> dict[str, int]:
    """The number of images in each split, as far as a complete run recorded it."""
    found = {split: next(filter(None, (images_of(run, split) for run in study.complete())), None) for split in _SPLITS}
    return {split: count for split, count in found.items() if count}
