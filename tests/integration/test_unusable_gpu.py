"""A stage and a study where nvidia-smi lists a GPU that PyTorch can't use. nvidia-smi is faked, the decision is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_pkg.errors import BAD_INPUT


@pytest.mark.parametrize("command", [
    ("-m", "ssl_pkg", "stage=pretrain", "method=simclr", "budget=tiny", "run_dir=run", "data.root=synthetic"),
    ("-m", "jobs", "study", "demo"),
])  # fmt: skip
def test_nothing_starts_and_nothing_is_written_if_a_gpu_can_not_be_used(
    tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: K80 (UUID: GPU-aa)'\n", encoding="utf-8")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "99")  # no GPU of this machine
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path / "work", capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == BAD_INPUT
    assert done.stderr.count("\n") == 1 and "GPU 99 is listed, but PyTorch" in done.stderr
    assert list((tmp_path / "work").iterdir()) == []
