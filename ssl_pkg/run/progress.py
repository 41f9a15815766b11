"""A run's progress: the file `status` for programs, a bar or plain lines for people, and the lock's heartbeat."""

import contextlib
import sys
import threading
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.file_lock import HEARTBEAT_SECONDS
from ssl_pkg.run.lock import RunLock

LINE_SECONDS: Final = 15.0  # between two plain lines, where stderr is not a terminal


class Reporter:
    """Publishes the run's progress every HEARTBEAT_SECONDS from a thread, so that `update` costs a run nothing."""

    def __init__(self, run: RunDirectory, lock: RunLock, title: str, earlier_seconds: float = 0.0) -> None:
        """earlier_seconds: the time of the run's earlier starts."""
        self._earlier_seconds = earlier_seconds
        self._run, self._lock, self._title = run, lock, title
        self._phase, self._step, self._steps, self._note = "starting", 0, 1, ""
        self._part: int | None = None
        self._parts: int | None = None
        self._stop = threading.Event()
        self._rate: float | None = None  # steps per second
        self._last_change = (time.monotonic(), "starting", 0)
        self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=1, note="")
        self._thread = threading.Thread(target=self._publish_until_stopped, daemon=True)

    def start(self) -> None:
        """Starts the bar and the thread."""
        self._bar.start()
        self._publish()
        self._thread.start()

    def update(self, phase: str, step: int, steps: int) -> None:
        """Records that `step` of `steps` are done in `phase`."""
        if phase != self._phase:
            self._note = ""
        self._phase, self._step, self._steps = phase, step, steps

    def begin_part(self, part: int, parts: int) -> None:
        """Records that part `part` of `parts` of the run's work begins, counted from 1."""
        self._part, self._parts = part, parts

    def note(self, text: str) -> None:
        """Shows a short text beside the bar, such as the loss."""
        self._note = text

    def message(self, text: str) -> None:
        """Prints a line that stays above the bar."""
        self._bar.console.print(f"{self._title}: {text}", markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Ends the thread, and publishes the progress a last time."""
        self._stop.set()
        self._thread.join()
        self._publish()
        self._bar.stop()

    def _publish_until_stopped(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self._publish()

    def _publish(self) -> None:
        phase, step, steps, now = self._phase, self._step, self._steps, time.monotonic()
        self._update_rate(phase, step, now)
        if not self._lock.is_held():  # the run itself finds out before its next write
            return
        self._lock.heartbeat()
        self._bar.update(
            self._task, description=f"{self._title}: {phase}", completed=step, total=steps, note=self._note
        )
        with contextlib.suppress(OSError):  # a full disk must not end a run only because `status` can't be written
            self._run.write_status(
                phase=phase,
                step=step,
                steps=steps,
                rate=self._rate,
                part=self._part,
                parts=self._parts,
                earlier_seconds=self._earlier_seconds,
            )
        if self._bar.disable and now - self._last_line > LINE_SECONDS:
            self._last_line = now
            rate = f"{self._rate:.2f} steps/s" if self._rate else ""
            part = f"part {self._part} of {self._parts}" if self._part else ""
            done = f"step {step} of {steps}" if steps > 1 else ""
            parts = (part, phase, done, rate, self._note)
            print(f"{self._title}: {', '.join(part for part in parts if part)}", file=sys.stderr, flush=True)

    def _update_rate(self, phase: str, step: int, now: float) -> None:
        then, last_phase, last_step = self._last_change
        if phase != last_phase or step < last_step:
            self._last_change, self._rate = (now, phase, step), None
        elif step > last_step:
            current = (step - last_step) / (now - then)
            self._rate = current if self._rate is None else 0.7 * self._rate + 0.3 * current
            self._last_change = (now, phase, step)
