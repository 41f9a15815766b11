"""What can be seen on the pages of a PDF, by poppler's programs."""

import html
import re
import subprocess
from itertools import combinations

import numpy as np

_TOP, _BOTTOM = 20 / 297, 279 / 297  # the text area of a page, as shares of its height
_INK = 200  # grey values below this are ink
_MARGIN = 22 / 25.4 * 72 - 5  # points; punctuation hangs over the edge of the text area
_HIGH = 14  # points; a word with a higher box is rotated, and its box is larger than the word
_SHORT = 2  # letters; a longer word is rotated if its box is higher than wide
_PAGE = re.compile(r'<page width="([\d.]+)".*?</page>', re.S)
_WORD = re.compile(r'<word xMin="([\d.]+)" yMin="([\d.]+)" xMax="([\d.]+)" yMax="([\d.]+)">(.*?)</word>')


def fills(pdf: bytes) -> list[float]:
    """How far down each page has ink, as share of its text area."""
    rendered = subprocess.run(["pdftoppm", "-r", "30", "-gray", "-"], input=pdf, capture_output=True, check=True).stdout
    found = []
    while rendered:  # one PGM after another
        _, size, _, rest = rendered.split(b"\n", 3)
        width, height = map(int, size.split())
        page = np.frombuffer(rest[: width * height], np.uint8).reshape(height, width)
        top, bottom = round(_TOP * height), round(_BOTTOM * height)
        inked = np.flatnonzero((page[top:bottom] < _INK).any(axis=1))
        found.append((inked[-1] + 1) / (bottom - top) if len(inked) else 0.0)
        rendered = rest[width * height :]
    return found


def misplaced(pdf: bytes) -> list[str]:
    """The pairs of words that overlap, and the words that are outside of the text area, each with its page."""
    done = subprocess.run(["pdftotext", "-bbox", "-", "-"], input=pdf, capture_output=True, check=True)
    found = []
    for number, page in enumerate(_PAGE.finditer(done.stdout.decode()), start=1):
        width = float(page[1])
        words = [(*map(float, box), html.unescape(text)) for *box, text in _WORD.findall(page[0])]
        flat = [word for word in words if word[3] - word[1] < _HIGH]
        flat = [word for word in flat if len(word[4]) <= _SHORT or word[2] - word[0] > word[3] - word[1]]
        found += [f"{number}: {word[4]}" for word in flat if word[0] < _MARGIN or word[2] > width - _MARGIN]
        for one, two in combinations(flat, 2):
            across = min(one[2], two[2]) - max(one[0], two[0])
            down = min(one[3], two[3]) - max(one[1], two[1])
            if across > 1.5 and down > 0.45 * min(one[3] - one[1], two[3] - two[1]):
                found.append(f"{number}: {one[4]} and {two[4]}")
    return found
