"""Fixtures: a whole study and its report, with a method and class names that `analysis` does not know."""

from pathlib import Path
from typing import Any

import pytest
from fake_reports import Built, Whole
from fake_study import AWKWARD, CLASSES, DATE, FakeStudy
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import report, writing
from analysis.blocks import Section
from analysis.page.build import render
from analysis.reading import read_study


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("analysis")
    classes = (AWKWARD, *CLASSES[1:])
    fake = FakeStudy(folder / "runs" / "whole", methods=("supervised", "byol", "barlow"), classes=classes)
    fake.whole()
    study = read_study(fake.path)
    writing.write(study, folder / "out" / "tables")
    return Whole(fake, study, folder / "out")


@pytest.fixture(scope="session")
def page(whole: Whole) -> str:
    """report.html of the whole study."""
    return render(whole.study, DATE).decode()


@pytest.fixture(scope="session")
def built(whole: Whole) -> Built:
    """For tests of the figures and the PDF. Takes ten seconds."""
    sizes: list[float] = []
    add = Section.figure

    def measuring(made: Section, folder: Path, name: str, figure: Figure | None, *texts: str, **options: Any) -> None:
        add(made, folder, name, figure, *texts, **options)
        if figure:
            figure.draw_without_rendering()  # which writes the numbers on the axes
        found = figure.findobj(Text) if figure else []
        sizes.extend(text.get_fontsize() for text in found if isinstance(text, Text) and text.get_text())

    contents: list[dict[str, Any]] = []
    compile_pdf = report.compile_pdf

    def recording(content: dict[str, Any]) -> bytes:
        contents.append(content)
        return compile_pdf(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Section, "figure", measuring)
        patch.setattr(report, "compile_pdf", recording)
        out = whole.out.with_name("reported")
        pdf = report.build(whole.study, out, DATE)
    return Built(whole.fake, whole.study, out, pdf, sizes, *contents)


@pytest.fixture
def fake(tmp_path: Path) -> FakeStudy:
    """An empty study, to which a test adds runs."""
    return FakeStudy(tmp_path / "study", images=100, points=30, steps=12)
