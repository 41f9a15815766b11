"""`submit --wait` where SLURM limits the number of jobs, and other jobs or a cancel come in between."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
import yaml
from studies import slurm, until

import jobs.submit_rounds
from jobs.__main__ import main
from jobs.status.states import read_rows

BED = {"accounting": True, "limits": True}
ANOTHER = ("sbatch", "--parsable", "--output=/dev/null", "--comment=other")


@pytest.fixture
def line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: object, stub_programs: None
) -> Iterator[Callable[..., list[str]]]:
    """Makes the command line that submits a study of stub stages and waits."""
    monkeypatch.setattr(jobs.submit_rounds, "RETRY_SECONDS", 1.0)

    def make(**more: object) -> list[str]:
        profile = tmp_path / "bed.yaml"
        profile.write_text(yaml.safe_dump({"partition": "low", "cpus": 1, "minutes": 10, **more}))
        places = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
        return ["submit", "demo", "--cluster", str(profile), "--wait", *places, "study.methods=[supervised]"]

    yield make


def test_wait_goes_on_when_other_jobs_that_filled_the_limit_have_ended(
    tmp_path: Path, line: Callable[..., list[str]], limit: Callable[[int], object], capsys: pytest.CaptureFixture[str]
) -> None:
    limit(2)
    for _ in range(2):
        slurm(*ANOTHER, "--wrap=sleep 15")
    assert main(line()) == 0
    printed = capsys.readouterr().out
    assert "\nsubmitted 0 of 12 jobs; QOS normal allows 2 at once; other jobs have taken the places: trying" in printed
    assert printed.count("submitted 0 of 12 jobs;") == 1
    assert (tmp_path / "reports/demo/report.pdf").exists()


def test_cancel_ends_a_wait_while_no_job_of_the_study_is_in_the_queue(
    tmp_path: Path, line: Callable[..., list[str]], limit: Callable[[int], object]
) -> None:
    limit(1)
    slurm(*ANOTHER, "--hold", "--wrap=true")
    code = (
        "import jobs.submit_rounds as r, sys; r.RETRY_SECONDS = 1; from jobs.__main__ import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-u", "-c", code, *line()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        until((tmp_path / "runs/demo/.jobs/slurm").is_dir)
        until(lambda: {row.note for row in read_rows(tmp_path / "runs/demo")} == {"not submitted"})
        assert main(["cancel", "demo", "--runs", str(tmp_path / "runs")]) == 0
        printed, _ = waiting.communicate(timeout=60)
    assert re.search(r"^11 runs and the report were not submitted, because the study was cancelled$", printed, re.M), (
        printed
    )


def test_wait_submits_the_others_if_one_run_is_cancelled(
    tmp_path: Path, line: Callable[..., list[str]], limit: Callable[[int], object], capsys: pytest.CaptureFixture[str]
) -> None:
    limit(2)
    name = "finetune-random-s0.demo"

    def cancel() -> None:
        until(lambda: "RUNNING" in slurm("squeue", "-h", "-n", name, "-o", "%T"), 90)
        slurm("scancel", "-n", name)

    thread = Thread(target=cancel)
    thread.start()
    assert main(line(setup=[f'[ "$SLURM_JOB_NAME" != {name} ] || sleep 300'])) == 75
    thread.join()
    printed = capsys.readouterr().out
    assert re.search(
        r"^\d runs? w\w+ not submitted, because \w+ needs? finetune-random.*, which was c",
        printed,
        re.M,
    ), printed
    complete = {file.parent.name for file in (tmp_path / "runs/demo").glob("*/result.json")}
    assert len(complete) > 2 and not any("supervised" in each for each in complete)
