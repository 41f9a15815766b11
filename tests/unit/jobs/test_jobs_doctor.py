"""What the doctor reports about machines with a defect, and its exit status."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import astuple
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from jobs import doctor
from jobs.__main__ import main
from jobs.cluster.profile_check import COMMANDS
from jobs.doctor import Level
from jobs.local.slots import slots
from ssl_pkg.config.presets import studies
from ssl_pkg.data.synthetic import Sizes
from ssl_pkg.hardware import machine as hardware


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
    root = machine(tmp_path, quota=quota)
    monkeypatch.setattr(doctor, "cores", partial(hardware.cores, root))
    monkeypatch.setattr(doctor, "quota", partial(hardware.quota, root))
    assert doctor._cores() == (level, "cores", text)


@pytest.mark.parametrize(
    ("limit_gb", "level", "text"),
    [
        (None, Level.OK, "16.0 GiB"),
        (32, Level.OK, "16.0 GiB"),
        (4, Level.OK, "4.0 GiB, the cgroup's limit; the machine has 16.0"),
        (1, Level.WRONG, "1.0 GiB, the cgroup's limit; the machine has 16.0; the smallest study needs 1.5"),
    ],
)
def test_memory_is_that_of_the_machine_or_the_cgroups_limit(
    limit_gb: int | None, level: Level, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "max" if limit_gb is None else str(limit_gb * 2**30)
    monkeypatch.setattr(doctor, "memory", partial(hardware.memory, machine(tmp_path, limit=limit)))
    assert doctor._memory() == (level, "memory", text)


def test_the_memory_of_each_study_is_known() -> None:
    assert set(doctor.MEMORY_GB) == set(studies())


@pytest.mark.parametrize(
    ("cpus", "gib", "expected"),
    [
        (
            2,
            16,
            [
                ("ok", "demo, photos-quick, photos-cpu: 2 stages at a time, each with the CPU in float32 and 1 thread"),
                ("ok", "photos, stl10: 1 stage at a time, each with the CPU in float32 and 2 threads"),
            ],
        ),
        (
            16,
            8,
            [
                ("ok", "demo, photos-quick, photos-cpu: 16 stages at a time, each with the CPU in float32 and 1 "
                 "thread"),
                ("note", "photos: 4 stages at a time, each with the CPU in float32 and 4 threads; its trainings need "
                 "up to 12 GiB of memory: give study.cpus=6"),
                ("note", "stl10: 2 stages at a time, each with the CPU in float32 and 8 threads; its trainings need up "
                 "to 12 GiB of memory: give study.cpus=9"),
            ],
        ),
        (
            16,
            4,
            [
                ("wrong", "demo: 16 stages at a time, each with the CPU in float32 and 1 thread; its trainings need up "
                 "to 6 GiB of memory: give study.cpus=6"),
                ("note", "photos-quick, photos-cpu: 16 stages at a time, each with the CPU in float32 and 1 thread; "
                 "its trainings need up to 8 GiB of memory: give study.cpus=6"),
                ("note", "photos: 4 stages at a time, each with the CPU in float32 and 4 threads; its trainings need "
                 "up to 12 GiB of memory: give study.cpus=9"),
                ("note", "stl10: 2 stages at a time, each with the CPU in float32 and 8 threads; its trainings need up "
                 "to 12 GiB of memory: this machine has too little"),
            ],
        ),
    ],
)  # fmt: skip
def test_each_study_has_its_number_of_stages_and_their_memory(
    cpus: int, gib: int, expected: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    monkeypatch.setattr("ssl_pkg.hardware.machine.quota", lambda root: float("inf"))
    monkeypatch.setattr(doctor, "memory", lambda: (gib * 2**30, float("inf")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert [(level, text) for level, _, text in doctor._use(False, "float32")] == expected
    for study in studies():  # the advice makes them fit
        for level, text in expected:
            names, _, rest = text.partition(": ")
            if study in names.split(", ") and level != "ok" and (advice := re.search(r"study\.cpus=(\d+)$", rest)):
                assert len(slots(int(advice[1]), use_gpus=False)) * doctor.MEMORY_GB[study] <= gib


def test_a_job_without_a_gpu_is_not_told_to_install_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    text = "none in this SLURM job, which --gres=gpu:1 may change: runs use the CPU, a CPU"
    assert doctor._gpu({"device": "cpu", "name": "a CPU"}) == (Level.NOTE, "GPU", text)


def test_a_folder_that_can_not_be_written_is_wrong() -> None:
    """Also below a folder that can't be searched, where Path.exists raises an error on Python 3.11."""
    code = (
        "import os, sys; from jobs.doctor import _disk; from pathlib import Path\n"
        "if os.getuid() == 0: os.setresuid(65534, 65534, 65534)\n"  # root may write everywhere
        "for folder in sys.argv[1:]: print(*_disk('disk', Path(folder), 3, 'runs need', 'give it'), sep='|')"
    )
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "closed/inside").mkdir(parents=True)
        (root / "file").touch()
        (root / "closed").chmod(0o555)
        (root / "shut").mkdir(mode=0o000)
        folders = [str(root / below) for below in ("closed/runs", "shut/inside/runs", "file/runs")]
        line = [sys.executable, "-c", code, *folders]
        done = subprocess.run(line, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    user = os.getuid() or 65534
    assert done.stdout.splitlines() == [
        f"wrong|disk|user {user} can't write to {root / 'closed'}: give it",
        f"wrong|disk|user {user} can't write to {root / 'shut'}: give it",
        f"wrong|disk|{root / 'file'} is not a folder: give it",
    ]


def test_a_full_disk_has_the_size_and_the_remedy_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    cache = tmp_path / "ssl-study"
    monkeypatch.setattr(doctor, "user_cache", lambda: cache)
    for free, level in ((0.1, Level.WRONG), (1.0, Level.OK)):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: usage._replace(free=int(free * 1e9)))
        _, disk, cached = islice(doctor.findings(tmp_path), 3)
        need = f"{free} GB are free in {tmp_path}, and the runs of a demo need 2: give another --runs"
        assert disk == (Level.WRONG, "disk", need)
        assert cached.level is level
        assert ("set XDG_CACHE_HOME to another folder" in cached.text) == (level is Level.WRONG)
        assert "--runs" not in cached.text
    train, test, unlabeled, ood = astuple(Sizes())
    assert (10 * (train + test + ood) + unlabeled) * 3 * 96 * 96 < doctor.CACHE_GB * 1e9


def program(folder: Path, name: str, output: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{output}'\n", encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_machine_without_gpu_and_compiler_can_run_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin", "uname")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(doctor, "memory", lambda: (64 * 2**30, float("inf")))
    assert main(["doctor", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "note   compiler    a C compiler (gcc or clang) is missing; only GPUs need it\n" in printed
    assert "ok     SLURM       not installed; only `ssl-study submit` needs it\n" in printed
    assert re.match(r"ok     a study     .*stl10: \d+ stages? at a time, each with ", printed.splitlines()[-1])


@pytest.mark.parametrize(
    ("said", "level", "text"),
    [
        (
            "scontrol: fatal: Could not establish a configuration source",
            Level.OK,
            "installed without a cluster; only `ssl-study submit` needs one",
        ),
        (
            "Unable to contact slurm controller",
            Level.NOTE,
            "no cluster responds (Unable to contact slurm controller); only `ssl-study submit` needs one",
        ),
    ],
)
def test_slurm_without_a_cluster_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, level: Level, text: str
) -> None:
    for name in COMMANDS:
        program(tmp_path / "bin", name)
    (tmp_path / "bin" / "scontrol").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    assert doctor._slurm() == (level, "SLURM", text)


@pytest.mark.slow
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
