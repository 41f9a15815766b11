"""report.html in a Chromium that is installed on this machine. Nothing is downloaded."""

import re
from pathlib import Path

from fake_images import LABELS, POINTS, mapped_study, shade
from fake_reports import Whole
from fake_study import DATE
from page_browser import NEEDED, READY, Shown, browser, file, opened, shown
from playwright.sync_api import Browser, expect

from analysis import words
from analysis.page.build import render
from analysis.reading import read_study
from ssl_pkg.data.images import balanced

__all__ = ("browser", "file", "shown")
pytestmark = NEEDED

MEAN_RED = """([name, expected]) => {
  const { data } = document.querySelector(`#${name} .thumbnail`).getContext("2d").getImageData(0, 0, 96, 48);
  const red = data.filter((_, place) => place % 4 === 0);
  return Math.abs(red.reduce((sum, value) => sum + value) / red.length - expected) < 4;
}"""  # of the upper half of an image that is shown


def test_every_figure_is_drawn_without_an_error_and_without_network(shown: Shown, file: Path) -> None:
    names = [figure.get_attribute("id") for figure in shown.page.locator("figure").all()]
    assert len(names) == 17
    for name in names:
        shown.figure(str(name))
        choice = shown.page.locator(f"figure#{name} select").first
        for option in range(choice.locator("option").count() if choice.count() else 0):
            choice.select_option(index=option)
    assert shown.errors == []
    assert {url for url in shown.requests if not url.startswith(("blob:", "data:"))} == {file.as_uri()}


def test_a_russian_page_has_russian_controls_and_numbers(browser: Browser, whole: Whole, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    with words.language("ru"):
        file.write_bytes(render(whole.study, DATE))
    with opened(browser, file) as found:
        for name in ("landscape", "landscape-line"):
            found.figure(name)
        figure = found.page.locator("figure#landscape-line")
        ticks = [text.replace("\u2212", "-") for text in figure.locator(".xtick text").all_text_contents()]
        assert "-0,5" in ticks
        assert not [tick for tick in ticks if "." in tick]
        buttons = found.page.locator("#landscape .modebar-btn, #landscape-line .modebar-btn").all()
        titles = [button.get_attribute("data-title") or "" for button in buttons]
        assert titles
        assert not [title for title in titles if re.search("[a-z]", title)]  # PNG may be in one
        expect(found.page.locator("#theme")).to_have_text(re.compile("тема"))
        expect(found.page.locator("#results tbody")).to_contain_text(re.compile(r"0,\d\d"))
        found.figure("tsne")
        expect(found.page.locator("figure#tsne [role=status]")).to_have_text("точек: 60")
        assert found.errors == []


def test_the_caption_of_a_figure_is_of_the_chosen_view(shown: Shown) -> None:
    shown.figure("accuracy")
    note = shown.page.locator("figure#accuracy figcaption .note")
    expect(note).not_to_contain_text("Dotted")
    shown.page.locator("figure#accuracy select").select_option(index=1)
    expect(note).to_contain_text("Dotted line")


def test_the_tables_are_painted_within_two_seconds(shown: Shown) -> None:
    times = []
    for _ in range(3):  # the fastest, because other processes may delay the browser
        painted = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        times.append(shown.page.wait_for_function(painted).json_value())  # it is recorded a little after the paint
        shown.page.reload()
        shown.page.wait_for_function(READY)
    assert min(times) < 2000


def test_the_mouse_shows_value_interval_seed_and_run(shown: Shown) -> None:
    shown.figure("accuracy")
    shown.page.locator("figure#accuracy .plot").scroll_into_view_if_needed()
    box = shown.page.locator("figure#accuracy .points path").first.bounding_box()
    assert box is not None
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = shown.page.locator("figure#accuracy .hoverlayer .hovertext")
    expect(label).to_contain_text("Random init. probe")
    expect(label).to_contain_text("%")
    expect(label).to_contain_text("seed 0; probe-random-s0")


def test_the_keyboard_moves_from_point_to_point_and_between_curves(shown: Shown) -> None:
    shown.figure("pretraining")
    plot, announcement = (
        shown.page.locator("figure#pretraining .plot"),
        shown.page.locator("figure#pretraining .announcement"),
    )
    plot.focus()
    plot.press("ArrowRight")
    expect(announcement).to_contain_text("epoch 0.1")
    expect(announcement).to_contain_text("pretrain-byol-s0")
    plot.press("ArrowRight")
    expect(announcement).to_contain_text("epoch 0.2")
    plot.press("ArrowDown")
    expect(announcement).to_contain_text("pretrain-barlow-s0")


def test_the_keyboard_moves_from_cell_to_cell_of_a_heat_map(shown: Shown) -> None:
    shown.figure("confusion")
    plot, announcement = (shown.page.locator(f"figure#confusion .{name}") for name in ("plot", "announcement"))
    plot.focus()
    for key, true, predicted in (
        ("ArrowRight", "#1 *best*_", "#1 *best*_"),
        ("ArrowRight", "#1 *best*_", "bird"),
        ("ArrowDown", "bird", "bird"),
        ("ArrowDown", "car", "bird"),
    ):
        plot.press(key)
        expect(announcement).to_contain_text(f"true {true}")
        expect(announcement).to_contain_text(f"predicted as {predicted}")
    expect(announcement).to_contain_text("seed 0; probe-random-s0")


def test_the_image_under_the_cursor_is_shown_only_in_a_page_with_thumbnails(
    browser: Browser, shown: Shown, tmp_path: Path
) -> None:
    shown.figure("tsne")
    assert shown.page.locator(".thumbnail").count() == 0
    file = tmp_path / "report.html"
    file.write_bytes(render(read_study(mapped_study(tmp_path).path), DATE, thumbnails=True))
    with opened(browser, file) as found:
        for name, split in (("tsne", "train"), ("tsne-finetuning", "test")):
            found.figure(name)
            plot, image = (found.page.locator(f"figure#{name} .{part}") for part in ("plot", "thumbnail"))
            plot.focus()
            for number in balanced(LABELS[split], POINTS)[:3]:
                plot.press("ArrowRight")
                expect(found.page.locator(f"figure#{name} .announcement")).to_contain_text(f"{split} image")
                expect(image).to_be_visible()
                found.page.wait_for_function(MEAN_RED, arg=[name, shade(split, int(number))])
            plot.press("Escape")
            expect(image).to_be_hidden()
        assert found.errors == []


def test_the_slider_moves_the_map_by_keys(shown: Shown) -> None:
    shown.figure("tsne-finetuning")
    slider = shown.page.locator("figure#tsne-finetuning input[type=range]")
    first = "document.querySelector('#tsne-finetuning .plot').data[1].x[0]"
    before = shown.page.evaluate(first)
    slider.focus()
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "step 10"
    assert shown.page.evaluate(first) != before


def test_classes_are_filtered_and_found(shown: Shown) -> None:
    shown.figure("tsne")
    count = "document.querySelector('#tsne .plot').data[1].x.length"
    assert shown.page.evaluate(count) == 60
    box = shown.page.locator("figure#tsne .legend input").nth(1)
    box.focus()
    box.press("Space")
    assert shown.page.evaluate(count) == 54
    shown.page.locator("figure#tsne input[type=search]").fill("class cat")
    expect(shown.page.locator("figure#tsne [role=status]")).to_have_text("6 found")


def test_tables_are_sorted_and_filtered_by_keys(shown: Shown) -> None:
    heading = shown.page.locator("#main th button").nth(1)
    heading.focus()
    heading.press("Enter")
    assert shown.page.locator("#main th").nth(1).get_attribute("aria-sort") == "descending"
    cells = shown.page.locator("#main td:nth-child(2)").all()
    values = [float(str(cell.get_attribute("data-value"))) for cell in cells]
    assert values == sorted(values, reverse=True)
    shown.page.locator("#results input[type=search]").fill("byol-probe evaluation test")
    models = shown.page.locator("#results tbody th").all_text_contents()
    assert models
    assert set(models) == {"byol-probe"}


def test_light_and_dark_follow_the_system_and_the_switch(shown: Shown) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    assert shown.page.evaluate(back) == "rgb(255, 255, 255)"
    shown.page.emulate_media(color_scheme="dark")
    dark = shown.page.evaluate(back)
    assert dark != "rgb(255, 255, 255)"
    shown.page.emulate_media(color_scheme="light")
    shown.page.locator("#theme").press("Enter")
    assert shown.page.evaluate(back) == dark
    shown.figure("few-labels")
    line = "document.querySelector('#few-labels .plot').data[1].line.color"
    assert shown.page.evaluate(line) != "#000000"
