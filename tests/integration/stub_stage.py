"""A stub for `python -m ssl_pkg` and `python -m analysis` in the tests of the local runner.

It is a real child process without torch that follows the conventions for run directories and exit statuses. A stage
takes `wait=SECONDS`. Only an evaluation of another run's model ends at once, because a study has many of them. A file
FAIL-NAME, HANG-NAME or IGNORE-NAME beside the study's folder makes the run NAME fail, exit with status 75 without a
signal, or ignore signals. Each start and end appends a line to the file EVENTS there.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from ssl_pkg.catalogue import EVALUATIONS
from ssl_pkg.run.directory import RunDirectory, write_json
from ssl_pkg.run.signals import SIGNALS

SAVING = 1.5  # seconds to write a checkpoint, longer than the runner waits between two polls
received: list[int] = []


def main(arguments: list[str]) -> int:
    if "--out" in arguments:
        return report(Path(arguments[arguments.index("--out") + 1]))
    settings = dict(word.split("=", 1) for word in arguments)
    run = RunDirectory(Path(settings["run_dir"]))
    root = run.path.parent.parent
    run.path.mkdir(parents=True, exist_ok=True)
    (run.path / "config.yaml").write_text("stage: stub\n")
    resumed = (run.path / "checkpoint").exists()
    write_json(run.path / "child.json", {"environment": dict(os.environ), "arguments": arguments, "resumed": resumed})
    print(f"working on {run.name}")
    if (root / f"FAIL-{run.name}").exists():
        print("the cause of it all", file=sys.stderr)
        return 1
    if (root / f"HANG-{run.name}").exists():
        return 75
    if source := settings.get("source"):
        assert source == "random" or RunDirectory(Path(source)).complete
    if not (root / f"IGNORE-{run.name}").exists():
        for number in SIGNALS:
            signal.signal(number, note)
    at_once = resumed or (settings.get("stage") in EVALUATIONS and source != "random")
    return work(run, 0.0 if at_once else float(settings.get("wait", "0.1")))


def note(number: int, frame: FrameType | None) -> None:
    received.append(number)


def work(run: RunDirectory, seconds: float) -> int:
    event(run, "begin")
    steps = max(1, round(seconds / 0.05))
    for step in range(steps):
        run.write_status(phase="stub", step=step, steps=steps, rate=20.0)
        time.sleep(0.05)
        if received:
            time.sleep(SAVING)
            (run.path / "checkpoint").write_text(signal.Signals(received[0]).name)
            event(run, "end")
            return 75
    event(run, "end")
    headline = {"headline": {"label": "test", "value": 0.503}} if run.name.startswith("probe-") else {}
    write_json(run.path / "result.json", {"seconds": seconds, "rows": [], **headline})
    return 0


def event(run: RunDirectory, what: str) -> None:
    with (run.path.parent.parent / "EVENTS").open("a") as events:
        events.write(json.dumps([what, run.name]) + "\n")


def report(out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.pdf").write_text("a report")
    print("the table of results")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
