"""The image's entry point without a container engine; tests/container has a real one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.__main__ import _parser
from jobs import image


@pytest.mark.parametrize("name", ["runs", "with space", "jürgen", "back\\slash"])
def test_mounts_are_recognized_whatever_their_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own spelling: a space is \\040, a backslash \\134, and other letters are as they are."""
    spelt = name.replace("\\", "\\134").replace(" ", "\\040")
    text = f"36 35 98:0 / / rw - overlay overlay rw\n37 36 98:1 /x /home/{spelt} rw,relatime - ext4 /dev/vda rw\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: text)
    assert image._mounted(Path("/home") / name / "demo")
    assert not image._mounted(Path("/home/other"))


def test_the_command_that_resumes_a_study_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    monkeypatch.setattr(image, "_check_writable", lambda folder, name: None)
    monkeypatch.setattr(image, "OUT", tmp_path)
    monkeypatch.setattr(image, "jobs", lambda line, resume_command: commands.append(resume_command) or 1)
    image._study(["demo"], ["demo", "--seeds", "0 1"])
    assert commands == ["docker run … IMAGE demo --seeds '0 1'"]


def test_a_report_that_can_not_be_copied_does_not_fail_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(image, "_check_writable", lambda folder, name: None)
    monkeypatch.setattr(image, "OUT", tmp_path)
    monkeypatch.setattr(image, "jobs", lambda line, resume_command: 0)
    report = tmp_path / "reports" / "demo" / "report.pdf"
    report.parent.mkdir(parents=True)
    report.touch()
    (tmp_path / "report.pdf").mkdir()
    assert image._study(["demo"], ["demo"]) == 0
    said = f"{tmp_path}/report.pdf can't be written: Is a directory; the report is {report}\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("words", "studies", "out"),
    [
        ("stl10", ["OUT/runs/stl10"], "OUT/reports/stl10"),
        ("stl10 --language ru", ["OUT/runs/stl10"], "OUT/reports/stl10"),
        ("stl10 long", ["OUT/runs/stl10", "OUT/runs/long"], "OUT/reports/stl10+long"),
        ("stl10 long --out /out/both", ["OUT/runs/stl10", "OUT/runs/long"], "/out/both"),
        ("stl10 /runs/mine", ["OUT/runs/stl10", "/runs/mine"], "OUT/reports/stl10+mine"),
        ("mine --language ru", ["mine"], None),  # in /runs, the working folder
    ],
)
def test_report_finds_the_studies_of_the_image_whatever_options_follow(
    words: str, studies: list[str], out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(image, "OUT", tmp_path)
    monkeypatch.setattr(image, "_run_program", lambda *line: started.append(line) or 0)
    for study in ("stl10", "long"):
        (tmp_path / "runs" / study).mkdir(parents=True)
    assert image.main(["report", *words.split()]) == 0
    ((module, *line),) = started
    options = _parser().read(line)
    assert module == "analysis"
    assert options.study == [study.replace("OUT", str(tmp_path)) for study in studies]
    assert options.out == (out and out.replace("OUT", str(tmp_path)))
    assert options.language == ("ru" if words.endswith("ru") else "en")


def test_a_signal_ends_other_programs_even_if_signals_were_blocked_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time; print('ready', flush=True); time.sleep(60)")
    code = (
        "import signal, sys; from jobs.image import _run_program; "
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); sys.exit(_run_program('waits'))"
    )
    line = [sys.executable, "-c", code]
    path = os.pathsep.join([str(tmp_path), str(Path(image.__file__).parent.parent)])
    process = subprocess.Popen(line, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == "ready\n"
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM
