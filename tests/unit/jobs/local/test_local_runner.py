import os
import signal
import time
from pathlib import Path

import pytest

from jobs.ledger import State, log_path
from jobs.local import runner
from jobs.local.runner import Runner, _Running
from jobs.local.slots import Slot
from jobs.local.supervisor import Supervisor
from jobs.plan.graph import plan
from jobs.programs import Programs
from jobs.stage_process import StageProcess
from jobs.status.display import make_display
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.run.directory import RunDirectory, write_json


class _Killed(StageProcess):
    def __call__(self) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


def test_the_log_gets_the_reason_if_a_job_ends_before_it_has_created_the_log(tmp_path: Path) -> None:
    """A signal at a job's start can end its supervisor before it runs StageProcess."""
    study = StudyConfig(name="small", methods=("supervised",), seeds=(0,), cpus=1)
    jobs = plan(study, runs=tmp_path, reports=tmp_path / "reports", data_root="synthetic", overrides=())
    unstarted = Runner(jobs, tmp_path / "small", [], make_display(), Programs())
    supervisor = Supervisor(_Killed(("true",), tmp_path / "log"))
    assert unstarted._exit_status(_Running(jobs[0], Slot(1), supervisor)) is None
    assert log_path(tmp_path / "small", jobs[0].name).read_text() == "the process that supervised the run was killed\n"


@pytest.mark.parametrize(
    ("name", "first_report", "reason"),
    [
        ("finetune-random-s0", False, "exit status 0, but no result.json\n"),
        ("report", False, "exit status 0, but no report.pdf\n"),
        ("report", True, "exit status 0, but no report.pdf\n"),
    ],
)
def test_the_log_names_the_file_that_a_job_did_not_write(
    name: str, first_report: bool, reason: str, tmp_path: Path
) -> None:
    study = StudyConfig(name="small", methods=("supervised",), seeds=(0,), cpus=1)
    jobs = plan(study, runs=tmp_path, reports=tmp_path / "reports", data_root="synthetic", overrides=())
    (job,) = (job for job in jobs if job.name == name)
    unstarted = Runner(jobs, tmp_path / "small", [], make_display(), Programs())

    def ended() -> _Running:
        return _Running(job, Slot(1), Supervisor(StageProcess(("true",), tmp_path / "log")), first_report)

    assert unstarted._exit_status(ended()) == 0
    log = log_path(tmp_path / "small", name)
    assert log.read_text() == reason
    if first_report:  # it need not have the result of a run that has ended meanwhile
        job.run_dir.mkdir(parents=True)
        (job.run_dir / "report.pdf").touch()
        assert unstarted._exit_status(ended()) == 0
        assert log.read_text() == reason


@pytest.mark.slow
def test_a_resumed_study_says_where_its_runs_were_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = StudyConfig(name="small", methods=("simclr", "byol", "supervised"), seeds=(0,), cpus=1)
    jobs = plan(study, runs=tmp_path, reports=tmp_path / "reports", data_root="synthetic", overrides=())
    for name, part, parts in (("pretrain-simclr-s0", None, None), ("finetune-random-s0", 3, 5)):
        checkpoint = tmp_path / "small" / name / "checkpoints" / "step-000000300.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        run = RunDirectory(tmp_path / "small" / name)
        run.write_status(phase="train", step=300, steps=600, rate=1.0, part=part, parts=parts)
    Runner(jobs, tmp_path / "small", [Slot(1)], make_display(), Programs(stage=("false",), report=("false",))).run()
    printed = [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines() if "resumes from" in line]
    said = "resumes from its checkpoint; it was interrupted at"
    assert sorted(printed) == [
        f"finetune-random-s0 (supervised) {said} part 3 of 5: train 300/600",
        f"pretrain-simclr-s0 {said} train 300/600 50%",
    ]


def test_the_end_of_a_job_is_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the runner looks for signals, and draws its table, only from time to time."""
    monkeypatch.setattr(runner, "POLL_SECONDS", 60.0)
    study = StudyConfig(name="small", methods=("supervised",), seeds=(0,), cpus=1)
    jobs = plan(study, runs=tmp_path, reports=tmp_path / "reports", data_root="synthetic", overrides=())
    started = Runner(jobs, tmp_path / "small", [Slot(1)], make_display(), Programs(stage=("false",), report=("false",)))
    began = time.monotonic()
    started.run()
    assert {entry.state for entry in started.entries.values()} == {State.FAILED, State.BLOCKED}
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(("complete", "state"), [(True, State.COMPLETE), (False, State.FAILED)])
def test_a_run_that_was_killed_after_it_had_written_its_result_is_complete(
    complete: bool, state: State, tmp_path: Path
) -> None:
    study = StudyConfig(name="small", methods=("supervised",), seeds=(0,), cpus=1)
    jobs = plan(study, runs=tmp_path, reports=tmp_path / "reports", data_root="synthetic", overrides=())
    started = Runner(jobs, tmp_path / "small", [Slot(1)], make_display(), Programs())
    slot = started._free.pop()
    started._running.append(_Running(jobs[0], slot, Supervisor(_Killed(("true",), tmp_path / "log"))))
    while not started._running[0].supervisor.ended:
        time.sleep(0.01)
    if complete:
        jobs[0].run_dir.mkdir(parents=True)
        write_json(jobs[0].run_dir / "result.json", {})
    started._collect()
    assert started.entries[jobs[0].name].state is state
    assert (started._free, started._running) == ([slot], [])
