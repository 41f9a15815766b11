"""The page of a study, opened in a Chromium that is installed on this machine. Nothing is downloaded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fake_reports import Whole
from fake_study import DATE
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.page.build import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed, which would show the page")
READY = "document.documentElement.dataset.ready === 'yes'"


@dataclass
class Shown:
    """A page in a window of its own, with what it wrote to the console and what it asked for."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def figure(self, name: str) -> None:
        self.page.locator(f"figure#{name}").scroll_into_view_if_needed()
        self.page.wait_for_selector(f"figure#{name} .plot.js-plotly-plot .main-svg")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def file(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(render(whole.study, DATE))
    return path


@contextmanager
def opened(browser: Browser, file: Path) -> Iterator[Shown]:
    page = browser.new_page(viewport={"width": 1000, "height": 800}, color_scheme="light")
    found = Shown(page)
    page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("request", lambda request: found.requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_function(READY)
    yield found
    page.close()


@pytest.fixture
def shown(browser: Browser, file: Path) -> Iterator[Shown]:
    with opened(browser, file) as found:
        yield found
