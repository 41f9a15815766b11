"""Shows the runs of a study: a coloured table on a terminal, plain lines in a log or pipe."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from jobs.ledger import State
from jobs.status.states import Row, count_states

STYLES: Final = {
    State.COMPLETE: "green",
    State.RUNNING: "cyan",
    State.PENDING: "dim",
    State.BLOCKED: "yellow",
    State.FAILED: "bold red",
    State.INTERRUPTED: "magenta",
    State.CANCELLED: "magenta",
}
DISPLAY_ORDER: Final = (
    State.FAILED,
    State.RUNNING,
    State.CANCELLED,
    State.INTERRUPTED,
    State.BLOCKED,
    State.PENDING,
    State.COMPLETE,
)
WIDE: Final = 76  # columns of a terminal that has room for the whole table
REFRESH_SECONDS: Final = 1.0  # between two updates of the table
LINE_SECONDS: Final = 25.0  # between two lines about the running runs, without a terminal
Rows = Callable[[], list[Row]]


class Display(Protocol):
    """Shows the progress of a study to the user."""

    def changed(self, row: Row) -> None:
        """Called when a run's state has changed."""

    def tick(self, rows: Rows) -> None:
        """Called again and again; calls `rows` only if the display is due for an update."""

    def say(self, text: str) -> None:
        """Shows a message."""

    def close(self, rows: Rows) -> None:
        """Shows the final state and ends the display."""


class LiveTable:
    """A table that is updated in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()
        self._due = 0.0

    def changed(self, row: Row) -> None:
        """Updates the table at the next tick."""
        self._due = 0.0

    def tick(self, rows: Rows) -> None:
        """Updates the table if a second has passed, or if a state has changed."""
        if time.monotonic() >= self._due:
            self._live.update(self._table(rows(), self._live.console.height), refresh=True)
            self._due = time.monotonic() + REFRESH_SECONDS

    def say(self, text: str) -> None:
        """Prints the message above the table."""
        self._live.console.print(text, markup=False, highlight=False)

    def close(self, rows: Rows) -> None:
        """Leaves the complete table on the screen."""
        self._live.update(self._table(rows(), None), refresh=True)
        self._live.stop()

    def _table(self, rows: list[Row], height: int | None) -> RenderableType:
        return render_table(rows, height, self._live.console.width)


class LineDisplay:
    """For logs: one line for each change of a state, and regularly one about the running runs."""

    def __init__(self) -> None:
        self._due = time.monotonic() + LINE_SECONDS

    def changed(self, row: Row) -> None:
        """Prints a line about the change."""
        ended = row.state in (State.COMPLETE, State.FAILED, State.INTERRUPTED)
        details = [format_duration(row.elapsed)] if ended and row.elapsed is not None else []
        details += [row.result] if row.result else []
        if row.state is State.FAILED and row.exit_status is not None:
            details.append(f"exit status {row.exit_status}")
        self.say(f"{row.name}: {row.state}" + (f" ({', '.join(details)})" if details else ""))

    def tick(self, rows: Rows) -> None:
        """Prints a line about the running runs every LINE_SECONDS."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LINE_SECONDS
        shown = rows()
        running = [f"{row.name} {_format_progress(row)}".strip() for row in shown if row.state is State.RUNNING]
        self.say(f"{'; '.join(running) or 'no run is active'} | {_format_counts(shown)}")

    def say(self, text: str) -> None:
        """Prints the message with the time of day."""
        print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)

    def close(self, rows: Rows) -> None:
        """Prints the number of runs in each state."""
        self.say(_format_counts(rows()))


def make_display() -> Display:
    """The display that suits standard output."""
    console = Console()
    return LiveTable(console) if console.is_terminal and not console.is_dumb_terminal else LineDisplay()


def render_table(rows: list[Row], height: int | None, width: int = WIDE) -> RenderableType:
    """The table and the number of runs in each state.

    height: maximum number of lines; then the most important rows are shown. None shows all rows. width: in columns;
    less than WIDE leaves out the bar and the times.
    """
    limit = len(rows) if height is None else max(1, height - 4)
    chosen = sorted(rows, key=lambda row: DISPLAY_ORDER.index(row.state))[:limit]
    run = Column("run", no_wrap=True, min_width=max((len(row.name) for row in rows), default=0))
    wide = ("", "left", "elapsed") if width >= WIDE else ()
    table = Table(run, Column("state", no_wrap=True), "progress", *wide, box=None, pad_edge=False)
    table.header_style = "bold"
    for row in rows:
        if row not in chosen:
            continue
        step, _, *times = (Text(cell, no_wrap=True, overflow="ellipsis") for cell in _cells(row))
        running = row.state is State.RUNNING and row.fraction is not None
        bar = ProgressBar(total=1.0, completed=row.fraction or 0.0, width=8) if running else ""
        table.add_row(Text(row.name), Text(row.state, STYLES[row.state]), step, *((bar, *times) if wide else ()))
    counts = Text("  ").join(Text(f"{count} {state}", STYLES[state]) for state, count in count_states(rows).items())
    if len(chosen) < len(rows):
        counts.append(f"  ({len(rows) - len(chosen)} runs not shown)", "dim")
    return Group(table, Text(""), counts)


def plain_lines(rows: list[Row]) -> list[str]:
    """The table as lines of aligned text."""
    lines = [("run", "state", "progress", "rate", "left", "elapsed", "job" if any(row.job for row in rows) else "")]
    lines += [(row.name, str(row.state), *_cells(row), row.job or "") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return [*(line.rstrip() for line in aligned), _format_counts(rows)]


def format_duration(seconds: float | None) -> str:
    """Formats a duration in seconds as 1:02:03 or 2:03; None as an empty string."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _cells(row: Row) -> tuple[str, str, str, str]:
    """Step or result with notes, rate, time left and elapsed time."""
    step = f"{row.phase or ''} {row.step}/{row.steps}".strip() if row.step is not None and row.steps is not None else ""
    requeued = f"requeued {row.requeues}x" if row.requeues else ""
    step = ", ".join(part for part in (step, row.result, requeued, row.note) if part)
    rate = "" if row.rate is None else f"{row.rate:.3g}/s"
    return step, rate, format_duration(row.left), format_duration(row.elapsed)


def _format_progress(row: Row) -> str:
    step, rate, left, elapsed = _cells(row)
    percent = "" if row.fraction is None else f"{row.fraction:.0%}"
    words = (step, percent, rate, elapsed and f"{elapsed} elapsed", left and f"{left} left")
    return " ".join(word for word in words if word)


def _format_counts(rows: list[Row]) -> str:
    return ", ".join(f"{count} {state}" for state, count in count_states(rows).items()) or "no runs"
