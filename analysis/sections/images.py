"""The images that the models were trained and tested on: the contact sheets of the runs."""

from pathlib import Path

from analysis.artifacts import picture
from analysis.blocks import Section
from analysis.study import Study
from analysis.words import N_, _
from ssl_pkg.run.directory import CONTACT_SHEET

_SHEETS = {
    "pretrain": (
        N_(
            "Images of train and test, each row of one class, and unlabeled images, as the models read them, resized. "
            "Each panel's heading says what it shows."
        ),
        "images",
    ),
    "ood": (
        N_(
            "OOD images, each row of one class, as the models read them, resized. The panel's heading says what it "
            "shows."
        ),
        "images-ood",
    ),
}


def section(study: Study, figures: Path) -> Section:
    """A sheet of the study's images and one of the OOD images; no blocks if no run has a sheet."""
    made = Section(_("Images"))
    for stage, (caption, name) in _SHEETS.items():
        sheets = [run for run in study.complete(stage) if (run.directory.path / CONTACT_SHEET).exists()]
        for run in sheets:
            content = picture(run.directory.path / CONTACT_SHEET)
            if content is not None:
                reading = _(
                    "each row should show the class that it names, upright; otherwise labels are permuted or axes "
                    "swapped."
                )
                made.picture(figures, name, content, _(caption), reading, stages=(stage,))
                break
            made.text(_("{run}: contact_sheet.png is damaged.", run=run.name))
    return made
