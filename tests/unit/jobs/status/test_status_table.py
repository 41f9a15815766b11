"""The table of `status`, its lines in a log, and its texts."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from jobs.ledger import State
from jobs.status.display import LineDisplay, LiveTable
from jobs.status.states import Row
from jobs.status.table import format_duration, format_left, format_progress, plain_lines, render_table

ROWS = [
    *(Row(f"done-{number}", State.COMPLETE, elapsed=61.0) for number in range(30)),
    Row("now", State.RUNNING, "train", 30, 120, 2.0, 45.0, 15.0),
    Row("bad", State.FAILED, exit_status=1),
    *(Row(f"later-{number}", State.PENDING) for number in range(30)),
]


def test_a_short_table_shows_the_most_important_rows() -> None:
    console = Console(width=90, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(render_table(ROWS, 12))
    shown = capture.get().splitlines()
    assert len(shown) <= 12
    assert any(line.startswith("now") and "train 30/120" in line and "0:45" in line for line in shown)
    assert any(line.startswith("bad") for line in shown)
    assert shown[-1].split() == [
        "30",
        "of",
        "62",
        "runs",
        "complete",
        "1",
        "running",
        "30",
        "pending",
        "1",
        "failed",
        "(54",
        "runs",
        "not",
        "shown)",
    ]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 25), (120, 40), (200, 60)])
def test_numbers_are_shown_before_runs_that_have_not_begun(width: int, height: int) -> None:
    rows = [
        Row("pretrain-simclr-s0", State.COMPLETE, elapsed=36.0, result="60.0 % kNN on holdout", ended=40.0),
        Row("width-random-probe-s0", State.COMPLETE, elapsed=9.0, ended=50.0),
        Row("pretrain-byol-s0", State.RUNNING, "train", 30, 120, 2.0, 45.0, 15.0),
        *(Row(f"later-{number}", State.PENDING) for number in range(60)),
        Row("probe-random-s0", State.COMPLETE, elapsed=4.0, result="50.3 % test", ended=10.0),
    ]
    console = Console(width=width)
    with console.capture() as capture:
        console.print(render_table(rows, height, width, (300.0, 300.0)))
    shown = capture.get()
    assert len(shown.splitlines()) <= height
    for row in rows:
        assert row.state is State.PENDING or row.name in shown
    assert "50.3 % test" in shown and "later-0" in shown and "later-59" not in shown


def test_of_complete_runs_the_latest_with_a_number_are_shown() -> None:
    numbers = [Row(f"number-{n}", State.COMPLETE, result="50.3 % test", ended=100.0 + n) for n in range(20)]
    others = [Row(f"other-{n}", State.COMPLETE, ended=200.0 + n) for n in range(20)]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(render_table([*others, *numbers], 12))
    names = [line.split()[0] for line in capture.get().splitlines()[1:-2]]
    assert names == [row.name for row in numbers[-len(names) :]]
    assert len(names) >= 7


def test_names_and_times_fit_in_80_columns() -> None:
    long = Row("embed-simclr-finetune-s0", State.RUNNING, "select lr=0.001 wd=0.01", 30, 1200, 12.3, 3700.0, 75.0)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(render_table([*ROWS, long], None))
    (line,) = (line for line in capture.get().splitlines() if line.startswith("embed"))
    assert line.split()[0] == long.name
    assert line.split()[-2:] == ["1:01:40", "1:15"]


def test_a_narrow_terminal_shows_name_state_and_result() -> None:
    complete = Row("corruptions-random-probe-s0", State.COMPLETE, elapsed=1.0, result="42.9 % corrupted")
    console = Console(width=60)
    with console.capture() as capture:
        console.print(render_table([*ROWS, complete], None, 60))
    lines = capture.get().splitlines()
    (line,) = (line for line in lines if line.startswith("corruptions"))
    assert line.split() == ["corruptions-random-probe-s0", "complete", "42.9", "%", "corrupted"]
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("probe-byol-s0", "probe-byol-s0 running train 300/1200 0:45 0:15 later pending"),
        ("finetune-byol-s0-lr=0.01", "finetune-byol-s0-lr=0.01 running train 300/1200 0:45 later pending"),
        ("corruptions-simclr-finetune-s0", "running train 300/1200, 0:45 left later pending"),  # without a column
    ],
)
def test_a_narrow_terminal_shows_the_time_left_before_the_elapsed_time(name: str, words: str) -> None:
    rows = [Row(name, State.RUNNING, "train", 300, 1200, 2.0, left=45.0, elapsed=15.0), Row("later", State.PENDING)]
    console = Console(width=60, height=12)
    with console.capture() as capture:
        console.print(render_table(rows, 12, 60))
    assert words in " ".join(capture.get().split())


SWEPT = "corruptions-simclr-finetune-s0-temperature=0.1,queue_size=65536"
WORDY = [
    Row("corruptions-simclr-finetune-s0", State.COMPLETE, elapsed=61.0, result="57.7 % corrupted"),
    Row("few_labels-simclr-s0", State.RUNNING, "finetune 10 labels, draw 0", 3, 40, elapsed=3700.0, part=12, parts=26),
    Row("embed-simclr-finetune-s0", State.RUNNING, "t-SNE frames", 110, 2000, 20.0, left=94.5, elapsed=7.0),
    Row("finetune-moco-s0", State.INTERRUPTED, "trial 12", 3, 400, requeues=2, note="NODE_FAIL", part=12, parts=25),
    Row(SWEPT, State.COMPLETE, elapsed=61.0, result="57.7 % corrupted"),
]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("rows", [WORDY, WORDY[:3], *([row] for row in WORDY)])
def test_nothing_is_cut_off_at_any_width(rows: list[Row], width: int) -> None:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(render_table(rows, None, width, (1234.0, 1234.0)))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert max(map(len, lines)) <= width
    shown = "\n".join(lines)
    assert "…" not in shown
    names = "".join(line.partition(" ")[0] for line in lines[1 : lines.index("")])
    assert names == "".join(row.name for row in rows)
    for row in rows:
        detailed = f"{row.phase} {row.step}/{row.steps}" if row.step and (width >= 100 or not row.parts) else ""
        part = f"part {row.part} of {row.parts}" if row.parts else ""
        for word in f"{row.state} {row.result or ''} {row.note or ''} {detailed} {part}".split():
            assert word in shown
    assert "about 21 min left" in " ".join(shown.split())


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("height", [8, 12, 24])
def test_wrapped_lines_count_towards_the_height(width: int, height: int) -> None:
    console = Console(width=width, height=height)
    with console.capture() as capture:
        console.print(render_table([*WORDY[1:4], *ROWS], height, width, (1234.0, 1234.0)))
    lines = capture.get().splitlines()
    assert len(lines) <= height
    assert any(line.startswith("bad") for line in lines)
    assert "left" in lines[-1]


@pytest.mark.parametrize("width", [1, 15, 23, 27])
def test_a_very_narrow_terminal_has_a_table_too(width: int) -> None:
    console = Console(width=width, height=12)
    with console.capture() as capture:
        console.print(render_table([*WORDY, *ROWS], 12, width, (1234.0, 1234.0)))
    assert capture.get().strip()


def test_rates_have_three_digits_also_if_they_are_zeros() -> None:
    rates = [Row("a", State.RUNNING, "train", 3, 9, rate) for rate in (1.0, 2.07, 12.3, 123.4, 1234.0)]
    shown = [line.split()[4] for line in plain_lines(rates)[1:-1]]
    assert shown == ["1.00/s", "2.07/s", "12.3/s", "123/s", "1234/s"]


def test_a_phase_without_steps_has_none() -> None:
    (line,) = plain_lines([Row("a", State.RUNNING, "resuming from step 100", 0, 1)])[1:-1]
    assert line.split()[2:] == ["resuming", "from", "step", "100"]


def test_the_phase_of_a_part_stays_on_one_line_before_the_table_gets_more_columns() -> None:
    few = Row(
        "few_labels-simclr-s0", State.RUNNING, "finetune 10 labels, draw 4", 32, 100, elapsed=99.0, part=5, parts=5
    )
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render_table([Row("finetune-random-s0", State.PENDING), few], None, 100))
    assert "part 5 of 5: finetune 10 labels, draw 4 32/100" in capture.get()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "less than a minute left"),
        (59.0, "less than a minute left"),
        (60.0, "about 1 min left"),
        (40 * 60.0, "about 40 min left"),
        (100 * 60.0, "about 1.7 h left"),
        (12.3 * 3600, "about 12 h left"),
        (60 * 3600.0, "about 2.5 days left"),
    ],
)
def test_an_estimate_has_two_digits_at_most(seconds: float, words: str) -> None:
    assert format_left(seconds, seconds) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (10.0, 45.0, "less than a minute left"),
        (30.0, 65.0, "about 1 min left"),
        (30.0, 300.0, "up to 5 min left"),
        (600.0, 1500.0, "10 to 25 min left"),
        (1380.0, 1500.0, "about 25 min left"),
        (3000.0, 2.5 * 3600, "0.83 to 2.5 h left"),
        (20 * 3600.0, 72 * 3600.0, "0.83 to 3 days left"),
    ],
)
def test_a_time_that_is_known_only_roughly_is_a_range(low: float, high: float, words: str) -> None:
    assert format_left(low, high) == words


def test_plain_lines() -> None:
    lines = plain_lines(ROWS)
    assert len(lines) == len(ROWS) + 2
    assert lines[31].split() == ["now", "running", "train", "30/120", "2.00/s", "0:45", "0:15"]
    assert lines[-1] == "30 of 62 runs complete, 1 running, 30 pending, 1 failed"
    assert plain_lines([])[-1] == "no runs"
    assert plain_lines([Row("a", State.PENDING)])[-1] == "0 of 1 run complete, 1 pending"
    with_report = [*ROWS, Row("report", State.PENDING)]
    assert plain_lines(with_report)[-1] == "30 of 62 runs complete, 1 running, 30 pending, 1 failed, report pending"
    assert [format_duration(seconds) for seconds in (None, 0, 75.4, 3723)] == ["", "0:00", "1:15", "1:02:03"]


def test_no_percentage_stands_beside_the_step_of_a_part() -> None:
    part = Row("few_labels-simclr-s0", State.RUNNING, "finetune 10 labels", 30, 40, elapsed=99.0, part=3, parts=5)
    assert format_progress(part) == "part 3 of 5: finetune 10 labels 30/40 1:39 elapsed"
    assert format_progress(replace(part, part=None, parts=None)) == "finetune 10 labels 30/40 75% 1:39 elapsed"


def test_a_log_gets_a_line_for_each_change_and_regular_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    lines = LineDisplay(lambda rows: (60.0 * len(rows), 60.0 * len(rows)))
    lines.changed(Row("a", State.RUNNING, elapsed=0.0))
    lines.changed(Row("a", State.FAILED, elapsed=3.0, exit_status=1))
    for second in range(61):
        clock[0] = float(second)
        lines.tick(lambda: ROWS)
    printed = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]
    beat = (
        "now train 30/120 25% 2.00/s 0:15 elapsed 0:45 left | 30 of 62 runs complete, 1 running, 30 pending, 1 failed"
    )
    beat += ", about 62 min left"
    assert printed == ["a: running", "a: failed (0:03, exit status 1)", beat, beat]


def test_a_table_on_a_terminal_is_updated_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    updates: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    screen = io.StringIO()
    table = LiveTable(Console(file=screen, force_terminal=True, width=90, height=20), lambda rows: (7000.0, 7000.0))

    def rows() -> list[Row]:
        updates.append(clock[0])
        return ROWS

    for tenth in range(31):
        clock[0] = tenth / 10
        table.tick(rows)
        if tenth == 15:
            table.changed(ROWS[0])
    table.say("a sentence")
    table.close(rows)
    assert updates == [0.0, 1.0, 1.6, 2.6, 3.0]
    first, _, last = screen.getvalue().rpartition("a sentence")
    assert "30 of 62 runs complete" in first and "about 1.9 h left" in first
    assert all(row.name in last for row in ROWS)
    end = [line for line in last.splitlines() if "30 of 62 runs complete" in line][-1]
    assert "left" not in end  # nothing runs any more
