"""A run uses jemalloc if the system has it, and its results have the same bits as with the system's malloc."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

INSTALLED = any(Path("/usr/lib").glob("*/libjemalloc.so.2")) or Path("/usr/lib64/libjemalloc.so.2").exists()


def trained(folder: Path, variables: dict[str, str]) -> tuple[dict[str, str], bool]:
    """Runs a short training; returns its digests and whether its process loaded jemalloc."""
    line = [sys.executable, "-m", "ssl_pkg", "stage=pretrain", "method=moco", "budget=tiny", "threads=2"]
    process = subprocess.Popen([*line, f"run_dir={folder}"], env=variables, stderr=subprocess.DEVNULL)
    loaded = False
    while process.poll() is None:
        loaded = loaded or "libjemalloc" in Path(f"/proc/{process.pid}/maps").read_text()
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == 0
    result = json.loads((folder / "result.json").read_text())
    return {name: result[name] for name in ("weights_sha256", "metrics_sha256")}, loaded


@pytest.mark.skipif(not INSTALLED, reason="needs jemalloc (Debian: libjemalloc2)")
def test_results_with_and_without_jemalloc_have_the_same_bits(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MALLOC_CONF")}
    digests, loaded = trained(tmp_path / "with", environment)
    assert loaded
    assert trained(tmp_path / "without", environment | {"LD_PRELOAD": ""}) == (digests, False)
