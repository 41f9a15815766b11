"""Shows a study that other processes run, until all its runs have ended."""

import time
from functools import partial
from pathlib import Path
from typing import Final

from jobs.cluster.outcomes import ACTIVE
from jobs.ledger import State
from jobs.status.display import make_display
from jobs.status.states import NOT_SUBMITTED, Row, read_status

POLL_SECONDS: Final = 2.0  # between two queries, which put load on the cluster's controller


def follow(folder: Path) -> list[Row]:
    """Shows the study in `folder` until no run is pending or running, except for unsubmitted runs. Returns the rows."""
    display, last_warning = make_display(), None
    rows: list[Row] = []
    before: dict[str, State] = {}
    try:
        while True:
            rows, warning = read_status(folder)
            if warning and warning != last_warning:
                display.say(warning)
            last_warning = warning
            for row in rows:
                if before.get(row.name, row.state) != row.state:
                    display.changed(row)
            before = {row.name: row.state for row in rows}
            display.tick(partial(list, rows))
            if not warning and not any(row.state in ACTIVE and row.note != NOT_SUBMITTED for row in rows):
                return rows
            time.sleep(POLL_SECONDS)
    finally:
        display.close(partial(list, rows))
