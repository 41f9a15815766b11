"""What the short commands (`pack`, `predict`, `data`, `report`) share: their options, signals and exit statuses."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED, NO_ROOM, BadInput, shortened
from ssl_pkg.messages.nearest import hint
from ssl_pkg.run.signals import interrupting


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as one sentence, without argparse's usage text. Options can't be abbreviated."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        """Raises BadInput."""
        raise BadInput(f"{message}: see `{self.prog} --help`")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options. Raises BadInput, which names the nearest option for a misspelt one."""
        options, rest = self.parse_known_args(arguments)
        if rest:
            raise unexpected(rest[0], vars(options), self.prog)
        return options


def usage(program: str, words: Sequence[str]) -> str:
    """The usage line of a program, for argparse, which does not wrap one that is given to it."""
    start = f"usage: {program} "
    unbreakable = (word.replace(" ", "\N{NO-BREAK SPACE}") for word in words)  # `[--runs DIR]`
    width = shutil.get_terminal_size().columns - 2  # as argparse
    lines = textwrap.wrap(
        " ".join(unbreakable), max(11, width - len(start)), break_long_words=False, break_on_hyphens=False
    )
    separator = "\n" + " " * len(start)
    return f"{program} {separator.join(lines)}".replace("\N{NO-BREAK SPACE}", " ")


def unexpected(word: str, options: Iterable[str], program: str) -> BadInput:
    """The error for a word of the command line that is neither an option nor an argument of the program."""
    if not word.startswith("-"):
        return BadInput(f"{program} does not take {word!r}: see `{program} --help`")
    name = word.partition("=")[0].lstrip("-")  # compared without dashes, which would make short names alike
    known = {option.replace("_", "-") for option in options} - {name}  # a parser may set an option that it lacks
    return BadInput(f"there is no option {word}{hint(name, sorted(known), prefix='--')}: see `{program} --help`")


def progress_bar() -> Progress:
    """A bar on standard error that counts and then disappears. Off a terminal it shows nothing."""
    console, columns = Console(stderr=True), (*Progress.get_default_columns(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def run_command(
    parser: Parser, arguments: Sequence[str], command: Callable[[argparse.Namespace], object], *, target: str, left: str
) -> int:
    """Calls `command` with the options; returns the exit status, after one sentence on stderr if it fails.

    Any of SIGNALS interrupts the command as Ctrl-C does. target: the option that names what the command writes. left:
    what a failure leaves, for the sentence: `nothing was packed`. The command reads its input inside of `reading`,
    because other errors are taken for failures of writing.
    """
    written = target
    try:
        options = parser.read(arguments)
        written = getattr(options, target)
        with interrupting():
            command(options)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"can't write {shortened(str(written))} ({error.strerror or error}): {left}", file=sys.stderr)
        return FAULT if error.errno in NO_ROOM else BAD_INPUT
    except KeyboardInterrupt:
        print(f"interrupted: {left}", file=sys.stderr)
        return INTERRUPTED
    return COMPLETE
