"""The words of a stage's command line: `key=value`, each. Imports neither Hydra nor torch.

Hydra's grammar reads the values, except those of LITERAL: everything after the first `=` is the value, because a path
may hold any character.
"""

import os
import re
from collections.abc import Sequence
from typing import Final

from ssl_pkg.errors import BadInput

PATHS: Final = ("run_dir", "source", "data.root")
LITERAL: Final = (*PATHS, "variant")


def key_of(override: str) -> str:
    """The field that an override sets: `a.b` of `++a.b=1`."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def split_literals(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The values of the LITERAL fields, with `~` expanded, and all other words.

    Raises BadInput for a path that is empty or that holds characters which no log and no table could show.
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
    return literal, others


def expand_path(key: str, value: str) -> str:
    """The path that `value` names, with `~` expanded. `key`: what the user calls it, for the message of BadInput."""
    if not value:
        raise BadInput(f"{key} is empty: give a folder, like {key}=runs{'/try/a' if key in PATHS else ''}")
    expanded = os.path.expanduser(value)  # noqa: PTH111, because Path takes ./random for random
    if re.search(r"[\0-\x1f\x7f]", expanded):
        raise BadInput(f"{key}={value!r} holds a control character, such as a line break: rename the folder")
    if re.search(r"[\ud800-\udfff]", expanded):
        raise BadInput(
            f"{key}={value!r} is no text in this locale: rename the folder, or set one that knows its name, "
            "like LC_ALL=C.UTF-8"
        )
    if any(len(os.fsencode(part)) > 255 for part in expanded.split("/")) or len(os.fsencode(expanded)) > 4000:
        raise BadInput(f"{key}={value[:40]}… is too long for a path: a name has 255 bytes at most")
    return expanded
