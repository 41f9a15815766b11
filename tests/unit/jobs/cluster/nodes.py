"""A process of a SLURM job, and SLURM's commands, without SLURM."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCONTROL = """\
echo "$@" >> {folder}/calls
if [ "$(wc -l < {folder}/calls)" -le {failures} ]; then
  echo "Unable to contact slurm controller (connect failure)" >&2; exit 1
fi
case "$1" in
  requeue) {meanwhile}; echo "{refusal}" >&2; exit {status};;
  *) echo "{shown}";;
esac
"""
RUNNING = "JobState=RUNNING Reason=None PreemptTime=None Restarts=0"
PREEMPTED = "JobState=RUNNING Reason=None PreemptTime=2026-01-01T10:00:00 StartTime=2026-01-01T09:00:00 Restarts=0"
CANCELLED = "JobState=COMPLETING Reason=None PreemptTime=None Restarts=0"
STARTED_AGAIN = "JobState=RUNNING Reason=None PreemptTime=None Restarts=1"
STOPS_AT_SIGTERM = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda n, _: sys.exit(75));"
    "print('ready', flush=True); time.sleep(30)"
)
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def write_command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


class Node:
    """A process of a SLURM job, with scripts in place of scontrol and scancel that record their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "runs" / "study" / "logs" / "a.log"
        self.run_dir = folder / "runs" / "study" / "a"
        self.result, self.renewed = "result.json", False
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        code: str,
        shown: str = RUNNING,
        failures: int = 0,
        refusal: str = "",
        meanwhile: str = "true",
        **environment: str,
    ) -> "subprocess.Popen[str]":
        """Starts the process. code: the stage. shown: the answer to `scontrol show job`. failures: the number of calls
        before the controller answers. refusal: the error of `scontrol requeue`. meanwhile: a command that it runs."""
        fields = {"folder": self.folder, "failures": failures, "refusal": refusal, "shown": shown}
        scontrol = SCONTROL.format(**fields, status=1 if refusal else 0, meanwhile=meanwhile)
        write_command(self.folder, "scontrol", scontrol)
        write_command(self.folder, "scancel", f'echo scancel "$@" >> {self.folder}/calls')
        job = (
            "from pathlib import Path; from jobs.cluster.node import NodeStage; "
            f"NodeStage(({sys.executable!r}, '-c', {code!r}), Path({str(self.run_dir)!r}), "
            f"Path({str(self.log)!r}), result={self.result!r}, renewed={self.renewed})()"
        )
        changed = {"PATH": f"{self.folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
        started = subprocess.Popen([sys.executable, "-c", job], env=os.environ | changed | environment, text=True)
        self._started.append(started)
        return started

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < end, self.log_text
            time.sleep(0.02)

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
