"""A run with jemalloc in the place of the system's malloc: it is there, and not a bit of the result is another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

THERE = any(Path("/usr/lib").glob("*/libjemalloc.so.2")) or Path("/usr/lib64/libjemalloc.so.2").exists()


def trained(folder: Path, environment: dict[str, str]) -> tuple[dict[str, str], bool]:
    """The digests of a short training, and whether its process had jemalloc."""
    line = [sys.executable, "-m", "ssl_pkg", "stage=pretrain", "method=moco", "budget=tiny", "threads=2"]
    process = subprocess.Popen([*line, f"run_dir={folder}"], env=environment, stderr=subprocess.DEVNULL)
    had = False
    while process.poll() is None:
        had = had or "libjemalloc" in Path(f"/proc/{process.pid}/maps").read_text()
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 0
    result = json.loads((folder / "result.json").read_text())
    return {name: result[name] for name in ("weights_sha256", "metrics_sha256")}, had


@pytest.mark.skipif(not THERE, reason="needs jemalloc (Debian: libjemalloc2)")
def test_the_bits_are_those_of_a_run_without_it(tmp_path: Path) -> None:
    as_it_is = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MALLOC_CONF")}
    digests, had = trained(tmp_path / "with", as_it_is)
    assert had
    assert trained(tmp_path / "without", as_it_is | {"LD_PRELOAD": ""}) == (digests, False)
