"""Class names: read from a text file with one name per line, and listed in messages."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ssl_pkg.errors import BadInput

SHOWN: Final = 10  # names in a message


def listed(names: Sequence[str]) -> str:
    """`a, b, c`, or the first ten names and the number of the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def read_names(file: Path) -> tuple[str, ...]:
    """The names, without empty lines. Raises BadInput if the file can't be read or a name isn't printable."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # Windows programs write a byte order mark
    except UnicodeDecodeError as error:
        old, new = shlex.quote(str(file)), shlex.quote(f"{file}.utf8")
        raise BadInput(
            f"{file} is not UTF-8: save it as UTF-8, one class name per line (from Latin-1: "
            f"`iconv -f latin1 -t utf8 {old} >{new} && mv {new} {old}`)"
        ) from error
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    for name in names:
        if not name.isprintable():
            raise BadInput(f"{file} has an invisible character in the name {name!a}: remove it")
    return names
