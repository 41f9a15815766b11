"""What the doctor reports about machines with a defect, and its exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import doctor
from jobs.__main__ import main
from jobs.doctor import Level


def machine(root: Path, *, quota: str = "max", limit: str = "max", total_gb: int = 16) -> Path:
    """The root folder of a machine with one cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/a\n", encoding="utf-8")
    (root / "proc/meminfo").write_text(f"MemTotal:       {total_gb * 2**20} kB\nMemFree: 5 kB\n", encoding="utf-8")
    folder = root / "sys/fs/cgroup/a"
    folder.mkdir(parents=True)
    (folder / "cpu.max").write_text(f"{quota} 100000\n", encoding="utf-8")
    (folder / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("quota", "level", "text"),
    [
        ("max", Level.OK, "8 used; this process may use 8, and its cgroup has no limit"),
        ("250000", Level.OK, "2 used; this process may use 8, and its cgroup allows 2.5"),
        ("50000", Level.WRONG, "1 used; this process may use 8, and its cgroup allows 0.5"),
    ],
)
def test_cores_name_affinity_and_the_cgroups_limit(
    quota: str, level: Level, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert doctor._cores(machine(tmp_path, quota=quota)) == (level, "cores", text)


@pytest.mark.parametrize(
    ("limit_gb", "level", "text"),
    [
        (None, Level.OK, "16.0 GiB"),
        (32, Level.OK, "16.0 GiB"),
        (4, Level.NOTE, "4.0 GiB, the cgroup's limit; the machine has 16.0; a pretraining on STL-10 needs 6"),
        (2, Level.WRONG, "2.0 GiB, the cgroup's limit; the machine has 16.0; a pretraining needs 3"),
    ],
)
def test_memory_is_that_of_the_machine_or_the_cgroups_limit(
    limit_gb: int | None, level: Level, text: str, tmp_path: Path
) -> None:
    limit = "max" if limit_gb is None else str(limit_gb * 2**30)
    assert doctor._memory(machine(tmp_path, limit=limit)) == (level, "memory", text)


def test_a_gpu_without_a_driver_is_found_on_the_bus(tmp_path: Path) -> None:
    assert not doctor._gpu_on_the_bus(tmp_path)
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n", encoding="ascii")
    (device / "class").write_text("0x040300\n", encoding="ascii")  # the audio part of a graphics card
    assert not doctor._gpu_on_the_bus(tmp_path)
    (device / "class").write_text("0x030200\n", encoding="ascii")
    assert doctor._gpu_on_the_bus(tmp_path)


def program(folder: Path, name: str, output: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{output}'\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def test_a_listed_gpu_that_pytorch_can_not_use_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin", "nvidia-smi", "GPU 0: K80 (UUID: GPU-aa)")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "99")  # no GPU of this machine
    assert main(["doctor", "--runs", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("wrong")] == ["GPU", "a"]
    assert any("GPU 99 is listed, but PyTorch for CUDA" in line and line.endswith("device=cpu") for line in lines)


def test_a_machine_without_gpu_and_compiler_can_run_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin", "uname")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(doctor, "memory", lambda root: (16 * 2**30, float("inf")))
    assert main(["doctor", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "note   compiler    a C compiler (gcc or clang) is missing; only GPUs need it\n" in printed
    assert "ok     SLURM       not installed; only `ssl-study submit` needs it\n" in printed
    assert printed.splitlines()[-1].startswith("ok     a study     runs ")


@pytest.mark.parametrize(
    ("cuda", "reason", "remedy"),
    [
        ("None", "Torch not compiled with CUDA enabled", "install PyTorch for CUDA, which requirements.lock names"),
        ("'13.0'", "The NVIDIA driver on your system is too old (found version 11040)", "update the GPU driver"),
        ("'13.0'", "CUDA driver initialization failed", "repair the GPU driver"),
    ],
)
def test_the_remedy_depends_on_pytorchs_reason(cuda: str, reason: str, remedy: str, tmp_path: Path) -> None:
    program(tmp_path / "bin", "nvidia-smi", "GPU 0: K80 (UUID: GPU-aa)")
    code = f"""
import sys, torch
def fail(): raise RuntimeError({reason!r} + '. Please update. See https://example.org')
torch.version.cuda, torch.cuda.init, torch.cuda.is_available = {cuda}, fail, lambda: False
from ssl_pkg.hardware.device import main
sys.exit(main())
"""
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 2
    assert f"({reason}): {remedy}" in done.stderr and done.stderr.endswith("give device=cpu\n")
