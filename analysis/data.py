"""Which images a study saw, by the names that its runs recorded, and the sentence that belongs beside every number."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from analysis import names
from analysis.study import Study

OFFICIAL: Final = frozenset({"STL-10", "CIFAR-10"})  # the names that md5 sums of the published files earn


def data_names(study: Study, *, ood: bool | None = None) -> list[str]:
    """The names of the data that complete runs saw: of all runs, or only of those on (or not on) OOD images."""
    runs = [run for run in study.complete() if ood is None or ood == (run.stage == "ood")]
    return sorted({str((run.result or {}).get("data") or "unnamed data") for run in runs})


def data_note(study: Study) -> str:
    """What to say beside a table that leaves the report."""
    warning = data_warning(data_names(study, ood=False), data_names(study, ood=True))
    return warning or f"The data was {names.listed(data_names(study))}, the published files."


def data_warning(seen: Sequence[str], seen_ood: Sequence[str] = ()) -> str:
    """What to say where a number is not from the published files; nothing where all are."""
    wrong, wrong_ood = _unofficial(seen), _unofficial(seen_ood)
    if wrong:
        return (
            f"These are not STL-10 numbers. The data was {_described(wrong | wrong_ood)}. "
            "Compare nothing here with published results."
        )
    if wrong_ood:
        return f"The OOD numbers here are not CIFAR-10 numbers. That data was {_described(wrong_ood)}."
    return ""


def _unofficial(seen: Sequence[str]) -> set[str]:
    return {part for name in seen for part in re.split(r"\s*(?:,|\+|/| and )\s*", name)} - OFFICIAL


def _described(wrong: Iterable[str]) -> str:
    what = {
        "synthetic": "synthetic images, drawn by a program",
        "stand-in": "files in the published layout that are not the published ones",
    }
    return names.listed(f"“{name}” ({what[name]})" if name in what else f"“{name}”" for name in sorted(wrong))
