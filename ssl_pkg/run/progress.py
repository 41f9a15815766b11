"""How far a run is: the file `status` for programs, a bar or plain lines for people, the lock's heartbeat."""

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

LINE_SECONDS: Final = 15.0  # between two plain lines, where there is no terminal


class Reporter:
    """A thread that tells every two seconds where the run is; the run only assigns numbers."""

    def __init__(self, run: RunDirectory, lock: RunLock, title: str) -> None:
        self._run, self._lock, self._title = run, lock, title
        self._phase, self._step, self._steps, self._note = "starting", 0, 1, ""
        self._stop = threading.Event()
        self._rate: float | None = None
        self._seen = (time.monotonic(), "starting", 0)
        self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"), console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=1, note="")
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def start(self) -> None:
        """Starts telling."""
        self._bar.start()
        self._tell()
        self._thread.start()

    def at(self, phase: str, step: int, steps: int) -> None:
        """`step` of `steps` are done in `phase`."""
        if phase != self._phase:
            self._note = ""
        self._phase, self._step, self._steps = phase, step, steps

    def note(self, text: str) -> None:
        """What is worth reading beside the bar, such as the loss."""
        self._note = text

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        self._bar.console.print(f"{self._title}: {text}", markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Tells a last time and ends the thread."""
        self._stop.set()
        self._thread.join()
        self._tell()
        self._bar.stop()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self._tell()

    def _tell(self) -> None:
        phase, step, steps, now = self._phase, self._step, self._steps, time.monotonic()
        then, earlier_phase, earlier_step = self._seen
        if phase != earlier_phase or step < earlier_step:
            self._seen, self._rate = (now, phase, step), None
        elif step > earlier_step:
            current = (step - earlier_step) / (now - then)
            self._rate = current if self._rate is None else 0.7 * self._rate + 0.3 * current
            self._seen = (now, phase, step)
        if not self._lock.is_held():  # the run itself finds out before its next write
            return
        self._lock.heartbeat()
        self._bar.update(
            self._task, description=f"{self._title}: {phase}", completed=step, total=steps, note=self._note
        )
        with contextlib.suppress(OSError):  # a full disk must not end a run because it can't say how far it is
            self._run.write_status(phase=phase, step=step, steps=steps, rate=self._rate)
        if self._bar.disable and now - self._last_line > LINE_SECONDS:
            self._last_line = now
            rate = f"{self._rate:.2f} steps/s" if self._rate else ""
            told = ", ".join(text for text in (phase, f"step {step} of {steps}", rate, self._note) if text)
            print(f"{self._title}: {told}", file=sys.stderr, flush=True)
