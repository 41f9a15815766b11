"""The programs read and write text in UTF-8, whatever the user's locale is."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FILES = [file for name in ("ssl_pkg", "jobs", "analysis", "slurm", "bench") for file in (PROJECT / name).rglob("*.py")]
NOT_TEXT = ("os.open", "tarfile.open", "Image.open")


def without_encoding(source: str) -> list[int]:
    """The lines that open a text file or read a program's text without naming an encoding."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        function = ast.unparse(call.func)
        name = function.rpartition(".")[2]
        first = (
            0 if function.endswith(".open") else 1
        )  # `path.open(mode)`, `open(path, mode)`, `os.fdopen(number, mode)`
        modes = [named["mode"]] if "mode" in named else call.args[first : first + 1]
        binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
        opens = name in ("open", "fdopen") and function not in NOT_TEXT and not binary
        if (opens or name in ("read_text", "write_text") or "text" in named) and "encoding" not in named:
            found.append(call.lineno)
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("open('a')", True), ("open('a', 'rb')", False), ("open('a', encoding='utf-8')", False),
        ("path.open('a')", True), ("path.open('ab')", False), ("path.open(mode='wb')", False),
        ("path.read_text()", True), ("path.write_text('x', encoding='utf-8')", False),
        ("os.fdopen(handle, 'wb')", False), ("os.fdopen(handle)", True), ("os.open('a', os.O_RDONLY)", False),
        ("run(line, text=True)", True), ("run(line, encoding='utf-8')", False),
    ],
)  # fmt: skip
def test_what_names_no_encoding_is_found(source: str, found: bool) -> None:
    assert bool(without_encoding(source)) == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PROJECT)))
def test_every_file_names_its_encoding(file: Path) -> None:
    assert without_encoding(file.read_text(encoding="utf-8")) == []
