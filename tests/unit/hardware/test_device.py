"""GPUs that are listed but can't be used. nvidia-smi is faked, the decision is not."""

import os
from pathlib import Path

import pytest
import torch

from jobs.__main__ import main
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.errors import BAD_INPUT, BadInput
from ssl_pkg.hardware import machine
from ssl_pkg.hardware.device import choose_device

VISIBLE = "CUDA_VISIBLE_DEVICES"
LISTED = "#!/bin/sh\necho 'GPU 0: K80 (UUID: GPU-aa)'\necho 'GPU 1: K80 (UUID: GPU-bb)'\n"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where nvidia-smi lists two GPUs and PyTorch finds none."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").write_text(LISTED, encoding="utf-8")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_listed_gpu_that_pytorch_does_not_find_is_refused_with_the_reason(wanted: str) -> None:
    with pytest.raises(BadInput, match=r"^GPU GPU-aa, GPU-bb is listed, but PyTorch .*give device=cpu$"):
        choose_device(wanted)


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(("wanted", "visible"), [("cpu", None), ("auto", ""), ("auto", "-1")])
def test_a_gpu_that_the_user_has_excluded_is_not_required(
    wanted: str, visible: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_device(wanted)[0] == torch.device("cpu")


def test_a_gpu_that_fails_at_its_first_operation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example an old GPU without kernels in PyTorch, or a GPU in exclusive mode that another process uses."""

    def busy(device: torch.device) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors might")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", busy)
    with pytest.raises(BadInput, match=r"GPU 0 \(CUDA error: all CUDA-capable devices are busy or unavailable\): free"):
        choose_device("auto")


@pytest.fixture
def out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU on the bus, and without a driver."""
    monkeypatch.setenv("PATH", str(tmp_path / "without nvidia-smi"))
    monkeypatch.setattr(machine, "DEVICES", tmp_path / "dev")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in (VISIBLE, "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "")  # so that it is unset after the test, as before it
        monkeypatch.delenv(name)
    on_the_bus = machine.gpu_out_of_reach
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    for name, content in (("vendor", "0x10de"), ("class", "0x030200")):
        (device / name).write_text(content, encoding="ascii")
    monkeypatch.setattr(machine, "gpu_out_of_reach", lambda: on_the_bus(tmp_path))


REFUSAL = "this machine has an NVIDIA GPU, but its driver is not loaded: install NVIDIA's driver, or use the CPU by "


@pytest.mark.usefixtures("out_of_reach")
def test_a_gpu_without_a_driver_is_refused_unless_the_cpu_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=f"^{REFUSAL}device=cpu"):
        choose_device("auto")
    assert choose_device("cpu")[0] == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto")[0] == torch.device("cpu")


@pytest.mark.slow
@pytest.mark.usefixtures("out_of_reach")
def test_a_study_does_not_use_the_cpu_of_a_machine_with_a_gpu_by_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str | None] = []
    run = "jobs.local.study.run_study"
    monkeypatch.setattr(run, lambda *given, **named: started.append(os.environ.get(VISIBLE)) or 0)
    generate(tmp_path / "data", Sizes(train_per_class=8, test_per_class=1, unlabeled=64, ood_per_class=1))
    line = ["study", "photos-quick", "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    assert main(line) == BAD_INPUT
    assert capsys.readouterr().err == f"{REFUSAL}device=cpu (make: CUDA_VISIBLE_DEVICES=)\n"
    assert not started and not (tmp_path / "runs").exists()
    assert main([*line, "device=cpu"]) == 0
    assert main(["demo", "--runs", str(tmp_path / "runs")]) == 0
    assert started == [None, ""]
    assert "The demo uses the CPU" in capsys.readouterr().err
