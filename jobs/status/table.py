"""The runs of a study as a table, for a terminal of any width or for a log. What does not fit wraps; nothing is cut."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from jobs.ledger import REPORT, State
from jobs.status.states import Row, count_states
from ssl_pkg.messages.counted import counted

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
    State.COMPLETE,
    State.PENDING,
)
DETAILED: Final = 100  # columns of a terminal that has room for the phase of a run that has parts
# Columns for the progress: at least; before the table gets more columns; likewise with the phases of runs with parts.
PROGRESS: Final = (12, 24, 48)
BAR: Final = 8  # columns
SecondsLeft = tuple[float, float] | None  # the seconds that a study still needs: at least and at most; None if unknown
CLOSE: Final = 1.15  # ratio of the bounds of the time left below which one number stands for both
_UNITS: Final = ((90, 60, "min"), (48, 3600, "h"), (float("inf"), 86400, "days"))  # used below so many of them


def render_table(rows: Sequence[Row], height: int | None, width: int = 80, left: SecondsLeft = None) -> RenderableType:
    """The table, the number of runs in each state, the report's state and the time left.

    height: maximum number of lines; then the most important rows are shown, in the order of `rows`: of complete runs
    those with a number first, the latest first of all; pending runs, which say nothing, only if there is room. None
    shows all rows. width: in columns; the time left, the elapsed time and the bar of each run have columns if there is
    room. Without its column, the time left stands beside the progress. left: for the whole study.
    """
    counts = _counts(rows, left)
    columns = _Columns.fit(rows, width)
    footer = sum(len(text) + 2 for text, _ in counts) + len("(100 runs not shown)")
    room = None if height is None else height - 4 - footer // width
    shown: set[str] = set()
    for row in sorted(rows, key=_importance):
        if room is not None:
            room -= columns.lines(row)
            if room < 0 and shown:
                break
        shown.add(row.name)
    if hidden := sum(row.name not in shown and row.name != REPORT for row in rows):
        counts.append((f"({counted(hidden, 'run')} not shown)", "dim"))
    table = columns.table([row for row in rows if row.name in shown])
    return Group(table, Text(""), Text("  ").join(Text(text, style) for text, style in counts))


def _importance(row: Row) -> tuple[int, bool, float]:
    """A key that sorts rows by their importance for a reader, the most important first."""
    ended = -(row.ended or 0.0) if row.state is State.COMPLETE else 0.0  # other rows keep the order of the plan
    return DISPLAY_ORDER.index(row.state), row.state is State.COMPLETE and row.result is None, ended


def plain_lines(rows: Sequence[Row]) -> list[str]:
    """The table as lines of aligned text."""
    lines = [("run", "state", "progress", "rate", "left", "elapsed", "job" if any(row.job for row in rows) else "")]
    lines += [(row.title, str(row.state), *_cells(row), row.job or "") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return [*(line.rstrip() for line in aligned), format_counts(rows)]


@dataclass(frozen=True)
class _Columns:
    """The widths of the columns for names and for the progress, and the titles of the columns after them."""

    name: int
    progress: int
    more: tuple[str, ...]
    detailed: bool

    @classmethod
    def fit(cls, rows: Sequence[Row], width: int) -> "_Columns":
        detailed = width >= DETAILED
        state = max((len(row.state) for row in rows), default=len("state"))
        name = max(1, min(max((len(row.title) for row in rows), default=3), width - state - 4 - PROGRESS[0]))
        free = max(1, width - name - state - 4)
        longest = max((len(_progress(row, detailed=detailed)) for row in rows), default=0)
        wanted = min(longest, PROGRESS[2] if detailed else PROGRESS[1])
        more: set[str] = set()
        running = any(row.left is not None for row in rows)
        for title in ("left", "elapsed", "bar") if running else ("elapsed", "left", "bar"):  # the most important first
            size = BAR if title == "bar" else max([len(title), *(len(_time(row, title)) for row in rows)])
            if free - size - 2 >= max(wanted, PROGRESS[0]):
                free -= size + 2
                more.add(title)
        return cls(name, free, tuple(title for title in ("bar", "left", "elapsed") if title in more), detailed)

    def lines(self, row: Row) -> int:
        """The lines that the row takes, because its name or its progress may wrap."""
        progress = textwrap.wrap(self._text(row), self.progress, break_on_hyphens=False)
        return max(1, -(-len(row.title) // self.name), len(progress))

    def _text(self, row: Row) -> str:
        """The progress, and the time left if it has no column."""
        left = "" if "left" in self.more or row.left is None else f"{format_duration(row.left)} left"
        return ", ".join(part for part in (_progress(row, detailed=self.detailed), left) if part)

    def table(self, rows: Sequence[Row]) -> Table:
        run = Column("run", width=self.name, overflow="fold")
        progress = Column("progress", max_width=self.progress, overflow="fold")
        more = [Column("" if title == "bar" else title, no_wrap=True) for title in self.more]
        table = Table(run, Column("state", no_wrap=True), progress, *more, box=None, pad_edge=False)
        table.header_style = "bold"
        for row in rows:
            cells = [_bar(row) if title == "bar" else Text(_time(row, title)) for title in self.more]
            table.add_row(Text(row.title), Text(row.state, STYLES[row.state]), Text(self._text(row)), *cells)
        return table


def format_progress(row: Row) -> str:
    """The progress of a running run in one line."""
    step, rate, left, elapsed = _cells(row)
    percent = "" if row.fraction is None or row.part else f"{row.fraction:.0%}"  # the step may be that of a part
    words = (step, percent, rate, elapsed and f"{elapsed} elapsed", left and f"{left} left")
    return " ".join(word for word in words if word)


def format_counts(rows: Sequence[Row], left: SecondsLeft = None) -> str:
    """The number of runs in each state, the report's state and the time left, in one line."""
    return ", ".join(text for text, _ in _counts(rows, left))


def format_duration(seconds: float | None) -> str:
    """Formats a duration in seconds as 1:02:03 or 2:03; None as an empty string."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def format_left(low: float, high: float) -> str:
    """A rough estimate in words, from seconds: `about 40 min left`, or `30 to 50 min left`."""
    if high < 60:
        return "less than a minute left"
    unit, name = next((unit, name) for limit, unit, name in _UNITS if high < limit * unit)
    least, most = (f"{seconds / unit:.0f}" if unit == 60 else f"{seconds / unit:.2g}" for seconds in (low, high))
    if low < 60:
        return f"up to {most} {name} left" if float(most) > 1 else "about 1 min left"
    return f"about {most} {name} left" if high < CLOSE * low or least == most else f"{least} to {most} {name} left"


def _counts(rows: Sequence[Row], left: SecondsLeft) -> list[tuple[str, str]]:
    """Texts and their styles. The report is not counted, because it is no run."""
    if not rows:
        return [("no runs", "")]
    counts = count_states(rows)
    runs = counted(sum(counts.values()), "run")
    texts = [(f"{counts.pop(State.COMPLETE, 0)} of {runs} complete", STYLES[State.COMPLETE])]
    texts += [(f"{count} {state}", STYLES[state]) for state, count in counts.items()]
    texts += [(f"report {row.state}", STYLES[row.state]) for row in rows if row.name == REPORT]
    return texts if left is None else [*texts, (format_left(*left), "bold")]


def _bar(row: Row) -> RenderableType:
    running = row.state is State.RUNNING and row.fraction is not None
    return ProgressBar(total=1.0, completed=row.fraction or 0.0, width=BAR) if running else ""


def _time(row: Row, title: str) -> str:
    return format_duration(row.left if title == "left" else row.elapsed)


def _progress(row: Row, *, detailed: bool = True) -> str:
    """Part and step, or the result, and notes. detailed: with phase and step of a run that has parts."""
    step = ""
    if row.step is not None and row.steps is not None:
        step = f"{row.phase or ''} {row.step}/{row.steps}".strip()
        if row.steps == 1 and row.phase:  # like `starting`, which has no steps
            step = row.phase
    if row.part and row.parts:
        part = f"part {row.part} of {row.parts}"
        step = f"{part}: {step}" if detailed and step else part
    requeued = f"requeued {row.requeues}x" if row.requeues else ""
    return ", ".join(part for part in (step, row.result, requeued, row.note) if part)


def _three_digits(rate: float) -> str:
    """The rate with three digits, also if some are zeros: 1.00, 12.3 or 123."""
    return f"{rate:#.3g}".rstrip(".") if rate < 1000 else f"{rate:.0f}"


def _cells(row: Row) -> tuple[str, str, str, str]:
    """Progress, rate, time left and elapsed time."""
    rate = "" if row.rate is None else f"{_three_digits(row.rate)}/s"
    return _progress(row), rate, format_duration(row.left), format_duration(row.elapsed)
