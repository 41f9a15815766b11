"""The checks of the images and of the GPUs, which other processes make. A script takes the place of Python."""

import sys
from pathlib import Path

import pytest

from jobs.plan.settings import check_data, check_gpus
from ssl_pkg.errors import BadInput


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 'the set is damaged' >&2; exit 2", "the set is damaged"),
        ("kill -9 $$", "{what} can't be checked (exit status -9): run the same command again"),
        (
            "printf 'Traceback\\nMemoryError\\n' >&2; exit 1",
            "{what} can't be checked (MemoryError): run the same command again",
        ),
    ],
)
def test_a_check_that_fails_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, sentence: str
) -> None:
    (tmp_path / "data" / "stl10_binary").mkdir(parents=True)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    for what, check in (
        (f"the images in {tmp_path / 'data'}", lambda: check_data(str(tmp_path / "data"))),
        ("the GPUs", check_gpus),
    ):
        with pytest.raises(BadInput) as error:
            check()
        assert str(error.value) == sentence.format(what=what)
