"""Shows the runs of a study: a coloured table on a terminal, plain lines in a log or pipe."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from rich.console import Console, RenderableType
from rich.live import Live

from jobs.ledger import State
from jobs.status.states import Row
from jobs.status.table import SecondsLeft, format_counts, format_duration, format_progress, render_table

REFRESH_SECONDS: Final = 1.0  # between two updates of the table
LINE_SECONDS: Final = 25.0  # between two lines about the running runs, without a terminal
Rows = Callable[[], list[Row]]
Estimate = Callable[[list[Row]], SecondsLeft]


def no_estimate(rows: list[Row]) -> None:
    """The estimate for runs that others start, like a cluster."""


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

    def __init__(self, console: Console, estimate: Estimate) -> None:
        self._estimate = estimate
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()
        self._due = 0.0

    def changed(self, row: Row) -> None:
        """Updates the table at the next tick."""
        self._due = 0.0

    def tick(self, rows: Rows) -> None:
        """Updates the table if a second has passed, or if a state has changed."""
        if time.monotonic() >= self._due:
            shown = rows()
            self._live.update(self._table(shown, self._live.console.height, self._estimate(shown)), refresh=True)
            self._due = time.monotonic() + REFRESH_SECONDS

    def say(self, text: str) -> None:
        """Prints the message above the table."""
        self._live.console.print(text, markup=False, highlight=False)

    def close(self, rows: Rows) -> None:
        """Leaves the complete table on the screen, without the time left, because nothing runs any more."""
        self._live.update(self._table(rows(), None, None), refresh=True)
        self._live.stop()

    def _table(self, rows: list[Row], height: int | None, left: SecondsLeft) -> RenderableType:
        return render_table(rows, height, self._live.console.width, left)


class LineDisplay:
    """For logs: one line for each change of a state, and regularly one about the running runs."""

    def __init__(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._due = time.monotonic() + LINE_SECONDS

    def changed(self, row: Row) -> None:
        """Prints a line about the change."""
        ended = row.state in (State.COMPLETE, State.FAILED, State.INTERRUPTED)
        details = [format_duration(row.elapsed)] if ended and row.elapsed is not None else []
        details += [row.result] if row.result else []
        if row.state is State.FAILED and row.exit_status is not None:
            details.append(f"exit status {row.exit_status}")
        self.say(f"{row.title}: {row.state}" + (f" ({', '.join(details)})" if details else ""))

    def tick(self, rows: Rows) -> None:
        """Prints a line about the running runs every LINE_SECONDS."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LINE_SECONDS
        shown = rows()
        running = [f"{row.title} {format_progress(row)}".strip() for row in shown if row.state is State.RUNNING]
        counts = format_counts(shown, self._estimate(shown))
        self.say(f"{'; '.join(running) or 'no run is active'} | {counts}")

    def say(self, text: str) -> None:
        """Prints the message with the time of day."""
        print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)

    def close(self, rows: Rows) -> None:
        """Prints the number of runs in each state."""
        self.say(format_counts(rows()))


def make_display(estimate: Estimate = no_estimate) -> Display:
    """The display that suits standard output."""
    console = Console()
    plain = not console.is_terminal or console.is_dumb_terminal
    return LineDisplay(estimate) if plain else LiveTable(console, estimate)
