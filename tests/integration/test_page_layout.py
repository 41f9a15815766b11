"""How report.html looks in an installed Chromium: at every width, with long names and many classes, and on paper."""

import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from fake_reports import swept
from fake_study import DATE, FakeStudy
from page_browser import NEEDED, READY, Shown, browser, file, opened, shown
from playwright.sync_api import Browser

from analysis import words
from analysis.page.build import figures, render
from analysis.reading import read_study

__all__ = ("browser", "file", "shown")
pytestmark = NEEDED

# the figure of each text that plotly has drawn, the text, its edges, and whether it is inclined
TEXTS = """() => [...document.querySelectorAll("figure")].flatMap((figure) => {
  const frame = figure.querySelector(".plot").getBoundingClientRect();
  return [...figure.querySelectorAll(".plot svg text")].filter((text) => text.textContent.trim()).map((text) => {
    const box = text.getBoundingClientRect();
    const inclined = /rotate\\((?!0|-?90)/.test(text.getAttribute("transform") ?? "");
    const edges = [box.left - frame.left, box.right - frame.left, box.top - frame.top, box.bottom - frame.top];
    return [figure.id, text.textContent, edges, inclined, frame.width, frame.height];
  });
})"""
INK = {"light": "rgb(27, 31, 36)", "dark": "rgb(232, 234, 237)"}  # --ink of page.css
TOUCHING = (2, 3)  # pixels across and down: boxes of texts are larger than their letters


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (400, 800)])
def test_the_accuracy_figure_is_on_the_first_screen(shown: Shown, width: int, height: int) -> None:
    shown.page.set_viewport_size({"width": width, "height": height})
    shown.page.reload()
    shown.page.wait_for_function(READY)
    shown.page.wait_for_selector("figure#accuracy .main-svg")
    assert shown.page.evaluate("scrollY") == 0
    dots = [dot.bounding_box() for dot in shown.page.locator("figure#accuracy .points path").all()]
    assert len(dots) == 12
    for box in dots:
        assert box is not None
        assert 0 < box["y"] < height - box["height"]
        assert 0 < box["x"] < width - box["width"]


@pytest.mark.parametrize("width", [400, 1600])
def test_the_page_fits_the_window(shown: Shown, width: int) -> None:
    shown.page.set_viewport_size({"width": width, "height": 800})
    for name in ("accuracy", "tsne", "landscape"):
        shown.figure(name)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.errors == []


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_the_names_of_models_are_read_in_a_narrow_window(browser: Browser, tmp_path: Path, language: str) -> None:
    fake = FakeStudy(tmp_path / "study", seeds=(0,)).whole()
    path = tmp_path / "report.html"
    with words.language(language):
        path.write_bytes(render(read_study(fake.path), DATE))
    with opened(browser, path) as found:
        found.page.set_viewport_size({"width": 400, "height": 800})
        rows = found.page.locator("#main tr, #results tr, #cost tr").all()
        boxes = [(row.bounding_box(), row.locator("th").first.bounding_box()) for row in rows]
    assert len(boxes) > 60
    for row, name in boxes:
        assert row is not None
        assert name is not None
        assert row["height"] < 90  # four lines
        assert 100 < name["width"] < 160


def test_a_small_loss_has_a_power_of_ten_on_its_axis(browser: Browser, tmp_path: Path) -> None:
    fake = FakeStudy(tmp_path / "study", images=100)
    fake.finetune("random")
    arrays = dict(np.load(fake.width("supervised") / "landscape.npz"))
    arrays["loss"] = np.geomspace(1e-5, 100, arrays["loss"].size).reshape(arrays["loss"].shape)
    np.savez(fake.path / "width-supervised-s0" / "landscape.npz", **arrays)
    path = tmp_path / "report.html"
    path.write_bytes(render(read_study(fake.path), DATE))
    with opened(browser, path) as found:
        found.figure("landscape-line")
        ticks = found.page.locator("#landscape-line .ytick text").all_text_contents()
    assert [tick for tick in ticks if "\u22125" in tick or "\u22124" in tick]
    assert not [tick for tick in ticks if re.search(r"[a-z\u00b5\u03bc]", tick)]


def test_no_text_of_a_figure_overlaps_another_or_is_cut(browser: Browser, tmp_path: Path) -> None:
    long, many = FakeStudy(tmp_path / "long", methods=("simclr",), images=100), tmp_path / "many"
    swept(long, [0.0123456, 0.1123456, 0.2123456, 0.3123456, 0.4123456, 0.5123456, 0.6123456, 0.7123456])
    names = [f"a rather long class name {number}" for number in range(40)]
    FakeStudy(many, methods=("supervised", "simclr"), classes=names, images=400).whole()
    for study in map(read_study, (long.path, many)):
        path = tmp_path / f"{study.name}.html"
        path.write_bytes(render(study, DATE))
        with opened(browser, path) as found:
            for width in (400, 1200):
                found.page.set_viewport_size({"width": width, "height": 800})
                found.page.reload()
                found.page.wait_for_function(READY)
                for plot in figures(study):
                    found.figure(plot.name)
                assert misplaced(found) == []


def misplaced(found: Shown) -> list[str]:
    """The texts of figures that overlap another one or the edge of their figure; inclined ones don't overlap others."""
    texts = found.page.evaluate(TEXTS)
    cut = [
        f"{figure}: {text} is cut"
        for figure, text, (left, right, top, bottom), _, width, height in texts
        if min(left, top) < -1 or right > width + 1 or bottom > height + 1
    ]
    pairs = [
        f"{one[0]}: {one[1]} and {other[1]}"
        for one, other in combinations(texts, 2)
        if one[0] == other[0] and not (one[3] and other[3]) and _overlap(one[2], other[2])
    ]
    return cut + pairs


def _overlap(one: list[float], other: list[float]) -> bool:
    """Whether two boxes share more than TOUCHING."""
    shared = [min(one[end + 1], other[end + 1]) - max(one[end], other[end]) for end in (0, 2)]
    return all(length > least for length, least in zip(shared, TOUCHING, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_printed_without_scrolling_in_light_colours(
    shown: Shown, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    shown.page.emulate_media(color_scheme=scheme)
    assert shown.page.locator(".js-plotly-plot").count() < 17
    ink = "getComputedStyle(document.querySelector('#accuracy .xtitle') ?? document.body).fill"
    shown.page.wait_for_selector("#accuracy .xtitle")
    # Chromium tells the page of the new scheme after the call has returned.
    shown.page.wait_for_function(f"{ink} == '{INK[scheme]}'")
    shown.page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {ink}; }})")
    pdf = shown.page.pdf(format="A4")
    assert shown.page.locator(".js-plotly-plot .main-svg").count() >= 17
    assert shown.page.evaluate("printed") == INK["light"]
    shown.page.wait_for_function(f"{ink} == '{INK[scheme]}'")
    assert shown.page.evaluate("document.documentElement.dataset.theme") == ""
    assert shown.errors == []
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed: the text of the PDF can't be read")
    text = subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
    assert "being drawn" not in text
    for title in ("labelled images per class", "predicted class", "along the direction"):
        assert title in text


def test_a_table_is_printed_whole(shown: Shown) -> None:
    shown.page.emulate_media(media="print")
    for table in shown.page.locator("#main .scroll, #cost .scroll").all():
        assert table.evaluate("frame => frame.scrollHeight - frame.clientHeight") == 0
