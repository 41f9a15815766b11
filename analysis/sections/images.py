"""What the models saw: the contact sheets that the runs left."""

from pathlib import Path

from analysis.artifacts import picture
from analysis.blocks import Section
from analysis.study import Study

_SHEETS = {
    "pretrain": ("the images of train, test and unlabeled", "images"),
    "ood": ("the OOD images", "images-ood"),
}


def section(study: Study, figures: Path) -> Section:
    """One sheet of the study's images and one of the OOD images; nothing where the runs left none."""
    made = Section("What the model saw")
    for stage, (what, name) in _SHEETS.items():
        sheets = [run for run in study.complete(stage) if (run.directory.path / "contact_sheet.png").exists()]
        for run in sheets:
            content = picture(run.directory.path / "contact_sheet.png")
            if content is not None:
                caption = f"Some of {what}, as read: the first of each class, resized, in the row of their label."
                reading = "each row should show its class, upright; if not, labels are permuted or axes swapped."
                made.picture(figures, name, content, caption, reading)
                break
            made.text(f"{run.directory.name}: contact_sheet.png is damaged.")
    return made
