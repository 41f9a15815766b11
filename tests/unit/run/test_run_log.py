from pathlib import Path

from ssl_pkg.run.run_log import (
    EVENT_PREFIX,
    START_PREFIX,
    TAIL_BYTES,
    exit_event,
    last_events,
    last_exit_status,
    last_output,
    tail,
)


def test_only_the_last_start_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = f"{START_PREFIX}first\nold\n{EVENT_PREFIX}{exit_event(0, 12.3)}\n"
    log.write_text(first)
    assert last_exit_status(log) == 0
    log.write_text(f"{first}{START_PREFIX}second\nnew\n{EVENT_PREFIX}requeued\n")
    assert (last_output(log), last_events(log), last_exit_status(log)) == (["new"], ["requeued"], None)
    with log.open("a") as out:
        out.write(f"{EVENT_PREFIX}{exit_event(-9, 1.0)}\n")
    assert last_exit_status(log) == -9


def test_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * TAIL_BYTES + f"\n{EVENT_PREFIX}{exit_event(75, 1.0)}\n")
    assert last_exit_status(log) == 75
    assert sum(map(len, tail(log))) < TAIL_BYTES


def test_a_log_that_is_missing_has_no_lines(tmp_path: Path) -> None:
    assert tail(tmp_path / "log") == last_output(tmp_path / "log") == []
    assert last_exit_status(tmp_path / "log") is None
