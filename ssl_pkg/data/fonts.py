"""Fonts for class names in any script."""

import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
SIZE: Final = 18  # pixels
_NO_CHARACTER: Final = "\uffff"  # which every font draws as it draws a character that it lacks


@cache
def font_for(text: str) -> Font | None:
    """A font that has all characters of `text`, or None.

    Pillow's own font has ASCII only. matplotlib's has the alphabets of Europe and the Near East. Other scripts need a
    font of the system, which fontconfig finds.
    """
    return next((font for font in _candidates(text) if _draws(font, text)), None)


def _candidates(text: str) -> Iterator[Font]:
    yield ImageFont.load_default(size=SIZE)
    package = find_spec("matplotlib")
    if package and package.origin:
        yield ImageFont.truetype(Path(package.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", SIZE)
    for file in _system_fonts(text):
        try:
            yield ImageFont.truetype(file, SIZE)
        except OSError:
            continue


def _system_fonts(text: str) -> Iterator[str]:
    codes = " ".join(f"{ord(character):x}" for character in sorted(set(text)))
    line = ["fc-list", "--format=%{file}\\n", f":charset={codes}"]
    try:
        done = subprocess.run(line, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from sorted(set(done.stdout.split("\n")) - {""})


def _draws(font: Font, text: str) -> bool:
    missing = bytes(font.getmask(_NO_CHARACTER))
    return all(bytes(font.getmask(character)) != missing for character in set(text) if not character.isspace())
