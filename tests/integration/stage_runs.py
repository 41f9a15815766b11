"""Runs stages with a tiny budget."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked

SMALL = ("budget=tiny", "threads=1")


def start(*arguments: str) -> forked.Forked:
    (process,) = forked.start([*SMALL, *arguments], strict=True)
    return process


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return forked.run([*SMALL, *arguments], strict=True)


def command(*arguments: str) -> list[str]:
    """The same as a command, for what depends on a new process. It takes five seconds more."""
    return [sys.executable, "-W", "error::UserWarning", "-m", "ssl_pkg", *SMALL, *arguments]


def run_alone(*arguments: str) -> None:
    """Runs a stage as a command. Unlike a forked process, it has a hash seed and an address layout of its own."""
    subprocess.run(command(*arguments), check=True, timeout=240)


def pretrain(method: str, data: Path, folder: Path, *more: str) -> list[str]:
    return ["stage=pretrain", f"method={method}", f"data.root={data}", f"run_dir={folder}", *more]


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def metric_lines(folder: Path) -> int:
    """The number of lines in the run's metrics log."""
    try:
        return (folder / "metrics.jsonl").read_text().count("\n")
    except OSError:
        return 0


def wait_for_lines(folder: Path, lines: int, process: forked.Forked) -> None:
    """Waits until the metrics log has this number of lines, or the process has ended."""
    while metric_lines(folder) < lines and not process.ends_within(0.01):
        pass
