"""The cores and GPUs that a process may use, with a faked file system and a faked nvidia-smi."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ssl_pkg.hardware.machine import cores, gpu_out_of_reach, gpus


def machine(root: Path, cgroup: str, files: Mapping[str, str]) -> Path:
    """The root folder of a machine with these cgroups. files: relative to sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup, encoding="utf-8")
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n", encoding="utf-8")
    return root


def v1(path: str, quota: int) -> dict[str, str]:
    return {f"cpu/{path}cpu.cfs_quota_us": str(quota), f"cpu/{path}cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),  # docker --cpus 2, read inside the container
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),  # half a core is one thread
        ("0::/\n", {"cpu.max": "199999 100000"}, 1),
        ("0::/\n", {"cpu.max": "9000000 100000"}, 8),  # more than the affinity
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),  # a Kubernetes pod's
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "40000 20000"}, 2),
        ("3:cpuset:/x\n1:cpu,cpuacct:/\n0::/\n", v1("", 300_000), 3),
        ("1:cpuacct,cpu:/a/b\n", v1("a/", 200_000) | v1("a/b/", -1), 2),
        ("1:cpu:/docker/0123\n", v1("", 400_000), 4),  # the host's path, which does not exist in the container
        ("1:cpu:/a\n2:memory:/\n", {"memory/cpu.max": "1 1"}, 8),
        ("1:cpu:/\n0::/a\n", {"unified/a/cpu.max": "500000 100000"} | v1("", -1), 5),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000"}, 8),  # the other half is missing
        ("0::/\n", {"cpu.max": ""}, 8),
    ],
)
def test_cores_are_the_minimum_of_affinity_and_quotas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores(machine(tmp_path, cgroup, files)) == expected


def test_a_machine_without_cgroups_has_its_affinity(tmp_path: Path) -> None:
    assert cores(tmp_path) == len(os.sched_getaffinity(0))


def lists(folder: Path, *lines: str, status: int = 0) -> None:
    """A program nvidia-smi in `folder` that prints these lines."""
    program = folder / "nvidia-smi"
    program.write_text(
        "\n".join(["#!/bin/sh", *(f"echo '{line}'" for line in lines), f"exit {status}"]), encoding="utf-8"
    )
    program.chmod(0o755)


A, B = "GPU 0: H100 (UUID: GPU-aa)", "GPU 1: H100 (UUID: GPU-bb)"


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    lists(tmp_path, A, B)
    assert gpus() == ["GPU-aa", "GPU-bb"]
    lists(tmp_path, A, "  MIG 1g.10gb Device 0: (UUID: MIG-cc)")
    assert gpus() == ["MIG-cc"]
    lists(tmp_path, "NVIDIA-SMI has failed because it couldn\u2019t communicate with the NVIDIA driver.", status=9)
    assert gpus() == []


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1", ["1"]), ("0, MIG-x", ["0", "MIG-x"]), ("", []), ("-1", []), ("NoDevFiles", []), ("0,-1,1", ["0"])],
)
def test_cuda_visible_devices_selects_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("PATH", str(tmp_path))
    lists(tmp_path, A, B)
    assert gpus() == expected
    lists(tmp_path, "No devices found.", status=6)
    assert gpus() == []  # the variable does not add a GPU that nvidia-smi does not list


def test_the_devices_in_dev_count_if_nvidia_smi_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    lists(tmp_path, "Failed to initialize NVML: Driver/library version mismatch", status=18)
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.setattr("ssl_pkg.hardware.machine.DEVICES", tmp_path)
    assert gpus() == ["0", "1"]


def on_the_bus(root: Path, vendor: str, kind: str) -> Path:
    """The root folder of a machine with this device on its PCI bus."""
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n", encoding="ascii")
    (device / "class").write_text(f"{kind}\n", encoding="ascii")
    return root


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(
    ("vendor", "kind", "found"),
    [
        ("0x10de", "0x030200", True),
        ("0x10de", "0x030000", True),
        ("0x10de", "0x040300", False),  # the audio part of a graphics card
        ("0x10de", "0x068000", False),  # an NVSwitch
        ("0x8086", "0x030000", False),
    ],
)
def test_a_gpu_without_a_driver_is_found_on_the_bus(vendor: str, kind: str, found: bool, tmp_path: Path) -> None:
    reason = gpu_out_of_reach(on_the_bus(tmp_path, vendor, kind))
    assert (reason is not None) == found
    if reason:
        assert reason.startswith("this machine has an NVIDIA GPU, but its driver is not loaded")


@pytest.mark.usefixtures("unset")
def test_a_gpu_that_is_hidden_on_purpose_is_not_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = on_the_bus(tmp_path, "0x10de", "0x030200")
    with monkeypatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert gpu_out_of_reach(root) is None
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "7")
        assert "driver is not loaded" in str(gpu_out_of_reach(root))  # no job could use it
    (root / "proc/driver/nvidia").mkdir(parents=True)
    (root / "proc/driver/nvidia/version").touch()
    assert str(gpu_out_of_reach(root)).endswith("this process can't open it: in a container, give --gpus all")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert gpu_out_of_reach(root) is None  # the job has not asked for it


@pytest.mark.usefixtures("unset")
def test_a_bus_that_can_not_be_read_has_no_gpu(tmp_path: Path) -> None:
    assert gpu_out_of_reach(tmp_path) is None
    (tmp_path / "sys/bus/pci").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices").touch()
    assert gpu_out_of_reach(tmp_path) is None
    (tmp_path / "sys/bus/pci/devices").unlink()
    (tmp_path / "sys/bus/pci/devices/0000:01:00.0").mkdir(parents=True)  # a device without files
    assert gpu_out_of_reach(tmp_path) is None
