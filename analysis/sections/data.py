"""Which images the study was made of: their names, numbers, files and some of them as pictures."""

from pathlib import Path
from typing import Final

from analysis import tables
from analysis.blocks import Section
from analysis.data import data_list, data_note, titled
from analysis.records import class_count, image_count, mapping, split_sizes
from analysis.sections import images
from analysis.study import Study
from analysis.words import N_, _

_USES: Final = {
    "train": N_(
        "{n:,} labelled images of train, for probes, supervised training and fine-tuning; a part is held out for "
        "choices"
    ),
    "test": N_("{n:,} labelled test images, not used for choices"),
    "unlabeled": N_("{n:,} unlabeled images, for pretraining"),
}


def section(study: Study, figures: Path) -> Section:
    """Names and numbers of the images, the files that were read, and contact sheets; empty without a complete run."""
    made = Section(_("Data"))
    if not study.complete():
        return made
    made.text(data_note(study) + _numbers(study))
    made.include(images.section(study, figures))
    _files(made, study)
    return made


def _numbers(study: Study) -> str:
    sizes = split_sizes(study)
    parts = [_(_USES[split], n=count) for split, count in sizes.items()]
    if count := image_count(study, "ood"):
        data = data_list(study, ood=True)
        parts.append(_("{n:,} out-of-distribution images, from {data}", n=count, data=data))
    classes = class_count(study)
    if not parts:
        return ""
    images = _("There are {images}.", images="; ".join(parts))
    return f" {images}" + (" " + _("The models have {n} classes.", n=classes) if classes else "")


def _files(made: Section, study: Study) -> None:
    """The files that were read, with their md5 sums."""
    files: dict[tuple[str, str], tuple[str, str]] = {}
    for run in study.complete():
        manifest = mapping(run.provenance.get("data"))
        for file, facts in mapping(manifest.get("files")).items():
            size = mapping(facts).get("bytes")
            count = _("{n:,}", n=size) if isinstance(size, int) else tables.ABSENT
            files[str(file), str(mapping(facts).get("md5") or _("not read"))] = (
                titled(str(manifest.get("name"))),
                count,
            )
    made.table(
        "data",
        [_("File"), _("Counts as"), _("Bytes"), "md5"],
        [[file, name, size, digest] for (file, digest), (name, size) in sorted(files.items())],
        _(
            "The data that the runs read. Files count as STL-10 or CIFAR-10 only if their md5 is that of the published "
            "file."
        ),
        size=8,
        left=2,
    )
