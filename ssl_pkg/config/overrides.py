"""The overrides of a stage's command line, each of the form `key=value`. Imports neither Hydra nor torch.

Hydra's grammar parses the values, except those of LITERAL: everything after their first `=` is the value, because a
path may contain any character.
"""

import os
import re
from collections.abc import Sequence
from typing import Final

from ssl_pkg.errors import BadInput

PATHS: Final = ("run_dir", "source", "data.root")
LITERAL: Final = (*PATHS, "variant")
_UNDECODED: Final = re.compile(r"[\ud800-\udfff]")  # bytes of a command line that are no text in the locale
EXAMPLES: Final = {"run_dir": "runs/try/a", "source": "runs/try/a", "--runs": "runs", "--reports": "reports"}


def key_of(override: str) -> str:
    """The field that an override sets, e.g. `a.b` for `++a.b=1`."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def split_literals(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Returns the values of the LITERAL fields, with `~` expanded, and the other overrides.

    Raises BadInput for a path that is empty, too long, or has characters that can't be printed, and for a word that
    can't be decoded.
    """
    literal: dict[str, str] = {}
    others = []
    for word in words:
        name, equals, value = word.partition("=")
        key = name.lstrip("+")
        if equals and key in LITERAL:
            literal[key] = expand_path(key, value) if key in PATHS else value
        else:
            others.append(word)
        if _UNDECODED.search(word):
            raise BadInput(f"{word!r} can't be decoded in this locale: give it in UTF-8")
    return literal, others


def expand_path(key: str, value: str, kind: str = "folder") -> str:
    """The path with `~` expanded. Raises BadInput for a path that can't be used.

    key: what the user knows the path by, for the message. kind: what it must be, for the message.
    """
    if not value:
        example = f", like {key}={EXAMPLES[key]}" if key in EXAMPLES else ""
        raise BadInput(f"{key} is empty: give a {kind}{example}")
    expanded = os.path.expanduser(value)  # noqa: PTH111, because Path turns ./random into random
    if re.search(r"[\0-\x1f\x7f]", expanded):
        raise BadInput(f"{key}={value!r} has a control character, such as a line break: rename the folder")
    if _UNDECODED.search(expanded):
        raise BadInput(
            f"{key}={value!r} can't be decoded in this locale: rename the folder, or set another locale, "
            "like LC_ALL=C.UTF-8"
        )
    if any(len(os.fsencode(part)) > 255 for part in expanded.split("/")) or len(os.fsencode(expanded)) > 4000:
        raise BadInput(f"{key}={value[:40]}… is too long for a path: a name has at most 255 bytes, a path 4000")
    return expanded
