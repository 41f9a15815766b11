"""What a page holds: its tags and texts, and the data that its script reads."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest


def unpacked(page: str, part: str = "data") -> Any:
    found = re.search(rf'<script type="text/plain" id="{part}">([^<]*)</script>', page)
    assert found is not None
    content = gzip.decompress(base64.b64decode(found[1])).decode()
    return json.loads(content, parse_constant=pytest.fail) if part == "data" else content


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open not in ("script", "style"):
            self.words += data


def cells(column: dict[str, Any]) -> list[Any]:
    if "levels" in column:
        return [None if code < 0 else column["levels"][code] for code in column["codes"]]
    return list(column["values"])


def matrix(spec: dict[str, Any]) -> np.ndarray:
    shape = [int(size) for size in spec["shape"].split(", ")]
    return np.frombuffer(base64.b64decode(spec["bdata"]), {"f4": np.float32}[spec["dtype"]]).reshape(shape)
