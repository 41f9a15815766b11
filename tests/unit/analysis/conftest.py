"""One whole study with its report, made once: three methods (one that `analysis` has never heard of), awkward names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_study import AWKWARD, CLASSES, DATE, Built, FakeStudy
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import report
from analysis.figures import style
from analysis.gather import gather


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("analysis")
    classes = (AWKWARD, *CLASSES[1:])
    fake = FakeStudy(folder / "runs" / "whole", methods=("supervised", "byol", "barlow"), classes=classes)
    fake.whole()
    sizes: list[float] = []
    save = style.save

    def measuring(figure: Figure, where: Path, name: str) -> Path:
        path = save(figure, where, name)
        found = figure.findobj(Text)
        sizes.extend(text.get_fontsize() for text in found if isinstance(text, Text) and text.get_text())
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", measuring)
        study = gather(fake.path)
        pdf = report.build(study, folder / "out", DATE)
    yield Built(fake, study, folder / "out", pdf, sizes)


@pytest.fixture
def fake(tmp_path: Path) -> FakeStudy:
    """An empty study to put single runs into."""
    return FakeStudy(tmp_path / "study", images=100, points=30, steps=12)
