"""Breaks long sentences at words, because a terminal breaks them anywhere."""

import shutil
import sys
import textwrap
from typing import TextIO


def wrapped(text: str, stream: TextIO) -> str:
    """The text with line breaks between words if `stream` is a terminal. Not for commands, which users copy."""
    if not stream.isatty():
        return text
    width = max(20, shutil.get_terminal_size().columns)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def say(sentence: str) -> None:
    """Prints the sentence on stderr, `wrapped`."""
    print(wrapped(sentence, sys.stderr), file=sys.stderr)
