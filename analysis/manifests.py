"""Finds the runs that read other data than the rest of the study, because their numbers are not comparable."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from analysis.records import mapping
from analysis.words import _

Manifest = frozenset[tuple[str, str]]


def of_other_data(runs: Sequence[tuple[str, str, dict[str, Any]]]) -> dict[str, str]:
    """A sentence for each run that read other data than the study, by the name of the run.

    runs: name, stage and provenance of each complete run. The study's data is the data of most pretraining runs,
    because all other runs start from them; without pretraining runs it is the data of most runs. For OOD images it is
    the data of most OOD runs. If two are equally frequent, the first by the name of the run counts. Files are compared
    by md5, or by size if they were too large for an md5. A run without a manifest is kept.
    """
    found = {name: (stage, manifest(provenance)) for name, stage, provenance in sorted(runs, key=lambda run: run[0])}
    roots = {name: str(mapping(provenance.get("data")).get("root")) for name, _, provenance in runs}
    other = {}
    for ood in (False, True):
        group = {name: (stage, seen) for name, (stage, seen) in found.items() if (stage == "ood") == ood and seen}
        pretrainings = {name: seen for name, (stage, seen) in group.items() if stage == "pretrain"}
        read = {name: seen for name, (_, seen) in group.items()}
        deciding = pretrainings or read
        if not deciding:
            continue
        own = Counter(deciding.values()).most_common(1)[0][0]
        where = next(roots[name] for name, seen in deciding.items() if seen == own)
        for name, seen in read.items():
            if seen != own:
                files = ", ".join(sorted({file for file, _ in seen ^ own}))
                other[name] = _(
                    "{run}: excluded, because it read other data (from {root}) than the study (from {own}): {files}.",
                    run=name,
                    root=roots[name],
                    own=where,
                    files=files,
                )
    return other


def manifest(provenance: dict[str, Any]) -> Manifest:
    """Each file that a run read, with its md5 or else its size."""
    files = mapping(provenance.get("data")).get("files")
    entries = files.items() if isinstance(files, dict) else ()
    return frozenset((str(f), str(e.get("md5") or e.get("bytes"))) for f, e in entries if isinstance(e, dict))
