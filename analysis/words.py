"""The language of a report. Every text for people is English in the code and is looked up in a gettext catalogue.

`_("{done} of {total} runs are complete.", done=3, total=4)` translates the sentence and then fills in the values, whose
numbers get the decimal mark of the language. English needs no catalogue; the others are `locale/LANGUAGE/*.po`.
"""

import datetime
import gettext
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from io import BytesIO
from pathlib import Path
from string import Formatter
from typing import Any, Final, cast

from babel.dates import format_date
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LANGUAGES: Final = ("en", "ru")
CATALOGUES: Final = Path(__file__).parent / "locale"
_MARKS: Final = {"en": (",", "."), "ru": ("\u00a0", ",")}  # of thousands, and of decimals
_language: ContextVar[str] = ContextVar("language", default="en")


@contextmanager
def language(code: str) -> Iterator[None]:
    """Context manager in which texts are in this language, one of LANGUAGES."""
    before = _language.set(code)
    try:
        yield
    finally:
        _language.reset(before)


def current() -> str:
    """The language of the texts: `en` without `language`."""
    return _language.get()


def _(text: str, /, **values: Any) -> str:
    """A text in the current language. values: fill the fields `{name:format}`; without values, braces are literal."""
    translated = _translations(current()).gettext(text) if text else ""  # gettext has the catalogue's head for ""
    return _filled(translated, values)


def ngettext(one: str, many: str, n: int, /, **values: Any) -> str:
    """The text with the form that belongs to the number `n`, which fills the field `{n}`."""
    return _filled(_translations(current()).ngettext(one, many, n), {"n": n, **values})


def pgettext(context: str, text: str, /, **values: Any) -> str:
    """A text that has several meanings, distinguished by the context."""
    return _filled(_translations(current()).pgettext(context, text), values)


def N_(text: str) -> str:  # noqa: N802 (gettext's name)
    """Marks a text for the catalogue that is translated later, by `_`, where it is used."""
    return text


def localized(number: str) -> str:
    """A number in English notation, like `1,234.5`, with the marks of the current language."""
    thousands, decimal = _MARKS[current()]
    return number.translate({ord(","): thousands, ord("."): decimal})


def dated(day: datetime.date) -> str:
    """A date: `2026-01-31` in English, `31 января 2026 г.` in Russian."""
    return day.isoformat() if current() == "en" else format_date(day, "long", locale=current())


class _Numbers(Formatter):
    """Formats like str.format; numbers get the marks of the current language."""

    def format_field(self, value: Any, format_spec: str) -> str:
        text = cast("str", super().format_field(value, format_spec))
        return localized(text) if isinstance(value, int | float) else text


def _filled(text: str, values: dict[str, Any]) -> str:
    return _Numbers().vformat(text, (), values) if values else text


@cache
def _translations(code: str) -> gettext.NullTranslations:
    """The catalogue of a language; the one of English is empty, so that texts stay as they are."""
    if code == "en":
        return gettext.NullTranslations()
    whole = Catalog(code)
    for path in sorted((CATALOGUES / code).glob("*.po")):
        with path.open("rb") as file:
            for message in read_po(file, locale=code, abort_invalid=True):
                whole.add(message.id, message.string, context=message.context)
    compiled = BytesIO()
    write_mo(compiled, whole)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
