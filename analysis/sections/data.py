"""Which images the study was made of: their names, numbers, files and some of them as pictures."""

from pathlib import Path
from typing import Final

from analysis import tables
from analysis.blocks import Section
from analysis.data import data_names, data_note
from analysis.records import mapping, split_sizes
from analysis.sections import images
from analysis.study import Study

_USES: Final = {
    "train": "{n} labelled images of train, for probes, supervised training and fine-tuning; a part is held out for "
    "choices",
    "test": "{n} labelled images of test, for no choice",
    "unlabeled": "{n} unlabeled images, for pretraining",
}


def section(study: Study, figures: Path) -> Section:
    """Names and numbers of the images, the files that were read, and contact sheets; empty without a complete run."""
    made = Section("Data")
    if not study.complete():
        return made
    made.text(f"Was this STL-10? {data_note(study)}{_numbers(study)}")
    made.blocks += images.section(study, figures).blocks
    _files(made, study)
    return made


def _numbers(study: Study) -> str:
    sizes = split_sizes(study)
    parts = [_USES[split].format(n=f"{count:,}") for split, count in sizes.items()]
    counts = study.results.loc[study.results["evaluation"] == "ood", "n"].dropna()
    if len(counts):
        parts.append(f"{counts.max():,} out-of-distribution images, from {' and '.join(data_names(study, ood=True))}")
    classes = max((len(run.classes) for run in study.complete()), default=0)
    if not parts:
        return ""
    return f" There are {'; '.join(parts)}." + (f" The models have {classes} classes." if classes else "")


def _files(made: Section, study: Study) -> None:
    """The files that were read, with their md5 sums."""
    files: dict[tuple[str, str], tuple[str, str]] = {}
    for run in study.complete():
        manifest = mapping(run.provenance.get("data"))
        for file, facts in mapping(manifest.get("files")).items():
            size = mapping(facts).get("bytes")
            count = f"{size:,}" if isinstance(size, int) else tables.ABSENT
            files[str(file), str(mapping(facts).get("md5") or "not read")] = (str(manifest.get("name")), count)
    made.table(
        "data",
        ["File", "Counts as", "Bytes", "md5"],
        [[file, name, size, digest] for (file, digest), (name, size) in sorted(files.items())],
        "The data that the runs read. Files count as STL-10 or CIFAR-10 only if their md5 is that of the published "
        "file.",
        size=8,
        left=2,
        widths=[1.5, 0.6, 0.7, 1.4],
    )
