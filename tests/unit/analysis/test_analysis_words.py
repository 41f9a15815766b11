"""The catalogues have every text that the code looks up, with the same fields."""

# ruff: noqa: RUF001 (Russian)

import ast
import datetime
from pathlib import Path
from string import Formatter
from typing import Any, TypeGuard

import pytest
from babel.messages.catalog import Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import analysis
from analysis import words
from ssl_pkg.catalogue import STAGES

_KEYWORDS: Any = {"_": None, "N_": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2)}
_METHODS: Any = [("**.py", "python"), ("**.js", "javascript")]
_FILES = sorted(words.CATALOGUES.glob("*/*.po"))
Text = tuple[str | None, str | tuple[str, ...]]


def looked_up() -> set[Text]:
    """Context and English text of every call of gettext in `analysis`, and of the names of the stages."""
    found = extract_from_dir(Path(analysis.__file__).parent, _METHODS, keywords=_KEYWORDS)
    texts = {(context, message) for _, _, message, _, context in found}
    return texts | {(None, text) for stage in STAGES.values() for text in (stage.label, stage.heading) if text}


def messages(path: Path) -> list[Message]:
    with path.open("rb") as file:
        catalogue = read_po(file, abort_invalid=True)
        assert not catalogue.obsolete
        return [message for message in catalogue if message.id]


def _forms(text: str | tuple[str, ...] | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


def _fields(text: str) -> set[tuple[str, str]]:
    return {(name, spec or "") for _, name, spec, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("code", [code for code in words.LANGUAGES if code != "en"])
def test_every_text_is_translated_once_and_no_translation_is_unused(code: str) -> None:
    found = [message for path in _FILES if path.parent.name == code for message in messages(path)]
    ids: list[Text] = [(message.context, message.id) for message in found]
    assert {one for one in ids if ids.count(one) > 1} == set()
    assert looked_up() - set(ids) == set()
    assert set(ids) - looked_up() == set()
    assert [message.id for message in found if message.fuzzy or not all(_forms(message.string))] == []


@pytest.mark.parametrize("path", _FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_translation_has_the_fields_of_its_text(path: Path) -> None:
    for message in messages(path):
        expected = set.union(*(_fields(text) for text in _forms(message.id)))
        for form in _forms(message.string):
            assert _fields(form) == expected, message.id


def test_an_empty_text_stays_empty() -> None:
    with words.language("ru"):
        assert words._("") == ""


def test_no_text_is_looked_up_within_another_because_babel_does_not_find_it() -> None:
    nested = []
    for path in Path(analysis.__file__).parent.rglob("*.py"):
        for call in filter(_looks_up, ast.walk(ast.parse(path.read_text()))):
            inner = [node for node in ast.walk(call) if node is not call and _looks_up(node)]
            nested += [f"{path.name}:{node.lineno}" for node in inner if isinstance(node.args[0], ast.Constant)]
        for text in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)):
            inner = list(filter(_looks_up, ast.walk(text)))
            nested += [f"{path.name}:{node.lineno}" for node in inner if isinstance(node.args[0], ast.Constant)]
    assert nested == []


def _looks_up(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KEYWORDS


def test_numbers_have_the_marks_of_the_language() -> None:
    assert words._("{n:,} of {share:.1f}", n=12345, share=2.5) == "12,345 of 2.5"
    with words.language("ru"):
        assert words.current() == "ru"
        assert words._("{n:,} of {share:.1f}", n=12345, share=2.5) == "12\u00a0345 of 2,5"
    assert words.current() == "en"


def test_a_date_is_written_as_the_language_does() -> None:
    day = datetime.date(2026, 1, 31)
    assert words.dated(day) == "2026-01-31"
    with words.language("ru"):
        assert words.dated(day).replace("\u202f", " ").replace("\u00a0", " ") == "31 января 2026 г."
