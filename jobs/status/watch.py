"""Follows a study that runs without this process, as the runner's own table would."""

import time
from functools import partial
from pathlib import Path
from typing import Final

from jobs.ledger import State
from jobs.status.display import make_display
from jobs.status.states import NOT_SUBMITTED, Row, read_status

POLL_SECONDS: Final = 2.0  # seconds between two looks: a cluster's controller serves others too
ACTIVE: Final = (State.PENDING, State.RUNNING)


def follow(folder: Path) -> list[Row]:
    """Shows the study in `folder` until nothing waits or runs any more, except for runs that were not sent;
    returns the last look."""
    shown, told = make_display(), None
    rows: list[Row] = []
    before: dict[str, State] = {}
    try:
        while True:
            rows, warning = read_status(folder)
            if warning and warning != told:
                shown.say(warning)
            told = warning
            for row in rows:
                if before.get(row.name, row.state) != row.state:
                    shown.changed(row)
            before = {row.name: row.state for row in rows}
            shown.tick(partial(list, rows))
            if not warning and not any(row.state in ACTIVE and row.note != NOT_SUBMITTED for row in rows):
                return rows
            time.sleep(POLL_SECONDS)
    finally:
        shown.close(partial(list, rows))
