"""`python -m analysis` as a person sees it: what it prints, and how it fails."""

import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fake_study import FakeStudy

from analysis.__main__ import main

PROJECT = Path(__file__).parents[2]


def test_the_command_prints_the_table_and_the_path_of_the_report(
    fake: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.probe("random")
    assert main([str(fake.path), "--out", str(tmp_path / "out"), "--date", "2026-01-02"]) == 0
    printed = capsys.readouterr().out
    assert "Random init. probe" in printed
    assert printed.count(str(tmp_path / "out" / "report.pdf")) == 1
    assert "runs are missing" in printed
    assert "These are not STL-10 numbers" in printed


def test_the_table_has_a_line_for_each_model_in_80_columns(
    fake: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for seed in (0, 1):
        fake.pretrain("moco", seed)
        for method in ("random", "moco"):
            fake.probe(method, seed)
        fake.finetune("moco", seed)
        for model in ("random-probe", "moco-probe", "moco-finetune"):
            fake.ood(model, seed)
            fake.embed(model, seed)
    assert main([str(fake.path), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-2])) <= 80
    for label in ("Random init. probe", "MoCo v2 probe", "MoCo v2 fine-tuned"):
        (line,) = (line for line in lines if line.strip().startswith(label))
        assert len(re.findall(r"[0-9]\.[0-9]", line)) == (4 if label.startswith("Random") else 5)


def test_no_table_is_printed_before_there_is_a_model(
    fake: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.pretrain("simclr")
    assert main([str(fake.path), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "no model has a test accuracy yet" in printed
    assert "Gain" not in printed
    assert "46 of 47 runs are missing" in printed


def test_a_russian_report_has_a_folder_of_its_own_and_a_russian_table(
    fake: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.probe("random")
    out = tmp_path / "out"
    assert main([str(fake.path), "--out", str(out), "--date", "2026-01-02", "--language", "ru"]) == 0
    printed = capsys.readouterr().out
    assert "Случ. иниц., проба" in printed
    assert printed.count(str(out / "ru" / "report.pdf")) == 1
    assert not (out / "report.pdf").exists()
    assert '<html lang="ru">' in (out / "ru" / "report.html").read_text()
    assert main([str(fake.path), "--language", "fr"]) == 2
    assert "--language" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "shell", "language"),
    [("LANG=ru", "C.UTF-8", "ru"), ("", "ru", "ru"), ("", "ru_RU.UTF-8", None), ("", "C.UTF-8", None)],
)
def test_make_passes_a_language_only_if_it_is_meant(word: str, shell: str, language: str | None) -> None:
    line = ["make", "-n", "report", *word.split()]
    environment = {**os.environ, "LANG": shell}
    done = subprocess.run(line, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert re.findall(r"--language (\S+)", done.stdout) == ([language] if language else [])


def test_the_command_refuses_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "there is no folder" in lines[0]
    assert "holds no complete run yet" in lines[1]


def test_an_impossible_output_folder_is_a_usage_error(
    fake: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.probe("random")
    taken = tmp_path / "file"
    taken.write_text("mine")
    for out in (taken, taken / "below", Path("/proc/x")):
        assert main([str(fake.path), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"analysis: can't write the report to {out}: ")
    assert taken.read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this machine has no /dev/full, which acts as a full disk")
def test_a_full_disk_is_not_a_usage_error(
    fake: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.probe("random")
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.pdf").write_text("earlier report")
    create = tempfile.mkstemp

    def full_for_the_pdf(**options: Any) -> tuple[int, str]:
        handle, path = create(**options)
        if options["prefix"] == ".report.pdf.":
            os.close(handle)
            handle = os.open("/dev/full", os.O_WRONLY)
        return handle, path

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", full_for_the_pdf)
        assert main([str(fake.path), "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("analysis: can't write the report: ")
    assert (out / "report.pdf").read_text() == "earlier report"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    assert main([str(fake.path), "--out", str(tmp_path / "other")]) == 1


def test_a_date_of_the_environment_that_does_not_exist_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9" * 30)
    assert main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("analysis: SOURCE_DATE_EPOCH=999")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0


def test_analysis_needs_no_torch_and_no_jobs() -> None:
    modules = {"torch", "jobs", "submitit", "ssl_pkg.config.schema"}
    check = f"import sys, analysis.__main__; print({modules} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
