"""Runs `python -m ssl_pkg` with a tiny budget."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SMALL = ("budget=tiny", "threads=1")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error::UserWarning", "-m", "ssl_pkg", *SMALL, *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=240, check=False)


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
