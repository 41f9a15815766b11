"""Which runs of a study saw other images than the rest: they can't be compared with it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

Manifest = frozenset[tuple[str, str]]


def of_other_data(runs: Sequence[tuple[str, str, dict[str, Any]]]) -> dict[str, str]:
    """Name of each run that saw other data than the study's -> a sentence that says so.

    runs: name, stage and provenance of each complete run. The study's data are those of most pretrainings, because
    everything else starts from these, and without pretrainings those of most runs; of OOD images those of most OOD
    runs. A tie goes to the first by name. Files count as the same by md5, or by size where they were too large for one.
    A run without a manifest stays.
    """
    found = {name: (stage, _manifest(provenance)) for name, stage, provenance in sorted(runs, key=lambda run: run[0])}
    roots = {name: str(_data(provenance).get("root")) for name, _, provenance in runs}
    other = {}
    for ood in (False, True):
        group = {name: (stage, seen) for name, (stage, seen) in found.items() if (stage == "ood") == ood and seen}
        pretrainings = {name: seen for name, (stage, seen) in group.items() if stage == "pretrain"}
        deciding = pretrainings or {name: seen for name, (_, seen) in group.items()}
        if not deciding:
            continue
        ((own, _),) = Counter(deciding.values()).most_common(1)
        where = next(roots[name] for name, seen in deciding.items() if seen == own)
        for name, (_, seen) in group.items():
            if seen != own:
                files = ", ".join(sorted({file for file, _ in seen ^ own}))
                other[name] = (
                    f"{name}: left out, it saw other data (from {roots[name]}) than the study (from {where}): {files}."
                )
    return other


def _manifest(provenance: dict[str, Any]) -> Manifest:
    """Each file that a run read, with what it is known by."""
    files = _data(provenance).get("files")
    entries = files.items() if isinstance(files, dict) else ()
    return frozenset((str(f), str(e.get("md5") or e.get("bytes"))) for f, e in entries if isinstance(e, dict))


def _data(provenance: dict[str, Any]) -> dict[str, Any]:
    data = provenance.get("data")
    return data if isinstance(data, dict) else {}
