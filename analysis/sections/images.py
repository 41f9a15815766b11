"""The images that the models were trained and tested on: the contact sheets of the runs."""

from pathlib import Path

from analysis.artifacts import picture
from analysis.blocks import Section
from analysis.study import Study
from analysis.words import N_, _

_SHEETS = {
    "pretrain": (
        N_(
            "The first images of each class among the images of train, test and unlabeled, resized; each row is one "
            "label."
        ),
        "images",
    ),
    "ood": (
        N_("The first images of each class among the OOD images, resized; each row is one label."),
        "images-ood",
    ),
}


def section(study: Study, figures: Path) -> Section:
    """A sheet of the study's images and one of the OOD images; no blocks if no run has a sheet."""
    made = Section(_("Images"))
    for stage, (caption, name) in _SHEETS.items():
        sheets = [run for run in study.complete(stage) if (run.directory.path / "contact_sheet.png").exists()]
        for run in sheets:
            content = picture(run.directory.path / "contact_sheet.png")
            if content is not None:
                reading = _("each row should show its class, upright; otherwise labels are permuted or axes swapped.")
                made.picture(figures, name, content, _(caption), reading, stages=(stage,))
                break
            made.text(_("{run}: contact_sheet.png is damaged.", run=run.name))
    return made
