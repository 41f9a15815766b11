"""The synthetic set is rendered in parts by several threads."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from test_synthetic import SMALL, content

from ssl_pkg.data import scenes, synthetic
from ssl_pkg.data.synthetic import generate


def test_parts_that_threads_render_are_written_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "one part", SMALL)
    render, threads = scenes.render, list[int]()

    def slow_at_first(split: str, indices: NDArray[np.intp]) -> scenes.Pixels:
        threads.append(threading.get_ident())
        if indices[0] == 0:
            time.sleep(0.1)  # later parts are ready before
        return render(split, indices)

    monkeypatch.setattr(synthetic, "CHUNK", 7)
    monkeypatch.setattr(synthetic, "cores", lambda: 4)
    monkeypatch.setattr(scenes, "render", slow_at_first)
    generate(tmp_path / "set", SMALL)
    assert content(tmp_path / "set") == content(tmp_path / "one part")
    assert len(set(threads)) > 1


def test_few_parts_are_rendered_ahead_of_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render, rendered = scenes.render, list[int]()

    def full_disk(path: Path, parts: Iterator[bytes]) -> str:
        next(parts)
        raise OSError(28, "No space left on device")

    def counted(split: str, indices: NDArray[np.intp]) -> scenes.Pixels:
        rendered.append(len(indices))
        return render(split, indices)

    monkeypatch.setattr(synthetic, "CHUNK", 1)
    monkeypatch.setattr(synthetic, "cores", lambda: 2)
    monkeypatch.setattr(synthetic, "_write", full_disk)
    monkeypatch.setattr(scenes, "render", counted)
    with pytest.raises(OSError, match="No space"):
        generate(tmp_path / "set", SMALL)
    assert 1 <= len(rendered) <= 3  # of 50: one that was written, and one ahead for each thread
    assert not list(tmp_path.iterdir())
