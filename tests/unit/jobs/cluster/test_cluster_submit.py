"""Which jobs a submission sends, and their options by the profile. tests/slurm shows that SLURM accepts them."""

from pathlib import Path
from typing import Any

import pytest

from jobs.cluster.batches import Batch, read_batches
from jobs.cluster.profile import Memory, Profile
from jobs.cluster.sbatch import job_parameters
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.cluster.submit import Submission
from jobs.ledger import State, read_ledger
from jobs.plan.graph import Job, plan
from jobs.programs import Programs
from ssl_pkg.catalogue import STAGES
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import write_json


def asked(tmp_path: Path, **sizes: Any) -> dict[str, dict[str, Any]]:
    profile = Profile(**{"name": "test", "cpus": 2, "memory": Memory(per_node=1), "minutes": 10, **sizes})
    study = StudyConfig(name="demo", methods=("byol",), seeds=(0,), cpus=2)
    jobs = plan(study, runs=tmp_path, reports=tmp_path, data_root="synthetic")
    batches = {job: Batch.new("test", (job.name,)) for job in jobs}
    files = tmp_path / "demo" / ".jobs" / "slurm" / "token"
    words = {job.stage: job_parameters(profile, job, batch, files) for job, batch in batches.items()}
    return {stage: each | each["additional_parameters"] for stage, each in words.items()}


@pytest.mark.parametrize(("gpus", "single"), [(0, None), (1, 1), (4, 1)])
def test_a_pretraining_gets_all_gpus_other_stages_get_one_and_the_report_none(
    tmp_path: Path, gpus: int, single: int | None
) -> None:
    found = {stage: words.get("gpus_per_node") for stage, words in asked(tmp_path, gpus=gpus).items()}
    others = dict.fromkeys(STAGES, single)
    assert found == {**others, "pretrain": gpus or None, "report": None}


def test_only_pretrainings_get_several_nodes(tmp_path: Path) -> None:
    found = asked(tmp_path, nodes=2, processes=3)
    assert {words["ntasks_per_node"] for stage, words in found.items() if stage != "pretrain"} == {1}
    assert (found["pretrain"]["nodes"], found["pretrain"]["ntasks_per_node"]) == (2, 3)
    assert found["pretrain"]["srun_args"] == ["--kill-on-bad-exit=1"]


@pytest.mark.parametrize(
    ("memory", "options"),
    [
        (Memory(per_node=1), {"mem": "1024M"}),
        (Memory(per_cpu=0.5), {"mem_per_cpu": "512M"}),
        (Memory(per_gpu=40), {"mem_per_gpu": "40960M"}),
        (None, {}),
    ],
)
def test_memory_is_requested_in_the_profiles_unit(
    tmp_path: Path, memory: Memory | None, options: dict[str, str]
) -> None:
    for stage, words in asked(tmp_path, gpus=1, memory=memory).items():
        without_gpu = stage == "report" and memory is not None and memory.per_gpu
        assert {name: value for name, value in words.items() if name.startswith("mem")} == (
            {} if without_gpu else options
        )


def test_null_removes_an_option_and_a_raw_option_overrides_the_profiles_memory(tmp_path: Path) -> None:
    options = {"mem": None, "time": None, "comment": None, "requeue": None, "cpus-per-task": None}
    for words in asked(tmp_path, sbatch=options).values():
        given = {name for name, value in words.items() if value is not None}
        assert not given & {"mem", "time", "comment", "requeue", "cpus_per_task", "wckey"}
    raw = asked(tmp_path, sbatch={"mem-per-cpu": "2G"})["probe"]
    assert (raw.get("mem"), raw["mem_per_cpu"]) == (None, "2G")


def test_a_report_that_lacks_queued_runs_is_made_again(folder: Path, tmp_path: Path) -> None:
    """It is newer than all results, because the queued run has none yet."""
    out = tmp_path / "reports"
    done, queued = (Job(name, "probe", (), (), folder / name, seed=0) for name in ("done", "queued"))
    report = Job("report", "report", (str(folder), "--out", str(out)), ("done", "queued"), out)

    def submission(*jobs: Job) -> Submission:
        profile = Profile(name="test", cpus=1, minutes=10)
        return Submission(jobs, folder, profile, data_root="synthetic", programs=Programs())

    assert submission(queued).submit().submitted == ["queued"]
    done.run_dir.mkdir()
    write_json(done.run_dir / "result.json", {})
    out.mkdir()
    (out / "report.pdf").touch()
    assert report.complete
    summary = submission(done, queued, report).submit()
    assert (summary.complete, summary.queued, summary.submitted) == (["done"], ["queued"], ["report"])
    assert read_batches(folder)[-1].after == f"afterany:{read_batches(folder)[0].number}"
    assert read_ledger(folder)["report"].state is State.PENDING
    summary = submission(done, queued, report).submit()
    assert (summary.queued, summary.submitted) == (["queued", "report"], [])


def test_a_refusal_says_which_jobs_are_in_the_queue_already(folder: Path, tmp_path: Path) -> None:
    """SLURM accepts the parent and refuses the child."""
    sbatch = tmp_path / "bin" / "sbatch"
    refusal = '[ ! -s "$SLURM_CONF" ] || { echo "sbatch: error: no such node configuration" >&2; exit 1; }'
    sbatch.write_text(sbatch.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{refusal}\n"))
    parent = Job("a", "probe", (), (), folder / "a", seed=0)
    child = Job("b", "ood", (), ("a",), folder / "b", seed=0)
    profile = Profile(name="test", cpus=1, minutes=10)
    submission = Submission([parent, child], folder, profile, data_root="synthetic", programs=Programs())
    for end in (r"\. 1 run, submitted before, will run all the same: .*cancel small", r"$"):
        with pytest.raises(BadInput, match=rf"SLURM refuses b: .* no such node configuration{end}"):
            submission.submit()


@pytest.mark.parametrize(("given", "used"), [(".venv/bin/python", "FOLDER/.venv/bin/python"), ("python3", "python3")])
def test_a_relative_python_does_not_depend_on_the_folder_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, used: str
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = Profile(name="test", cpus=1, minutes=10, python=given)
    submission = Submission([], tmp_path, profile, data_root="synthetic", programs=Programs())
    stage = submission._node_stage(Job("a", "probe", (), (), tmp_path / "a", seed=0))
    assert stage.command[0] == used.replace("FOLDER", str(tmp_path))


def test_only_the_first_call_treats_an_outage_as_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
    job, profile = Job("a", "probe", (), (), folder / "a", seed=0), Profile(name="test", cpus=1, minutes=10)
    submission = Submission([job], folder, profile, data_root="synthetic", programs=Programs())
    with pytest.raises(BadInput, match="run the same command again"):
        submission.submit()
    with pytest.raises(SchedulerUnavailable):
        submission.submit(first=False)


@pytest.mark.parametrize("name", ["100%j", "back\\slash"])
def test_a_path_that_slurm_would_change_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "demo"
    profile = Profile(name="test", cpus=2, memory=Memory(per_node=1), minutes=10)
    with pytest.raises(BadInput, match=r"SLURM replaces the [%\\] in .*: give another folder with --runs"):
        Submission([], folder, profile, data_root="synthetic", programs=Programs()).submit()
    assert not folder.parent.exists()


def test_a_job_that_has_a_gpu_must_use_it(tmp_path: Path) -> None:
    job = Job("a", "probe", ("stage=probe",), (), tmp_path / "a", seed=0)
    for gpus, device in ((1, ("device=cuda",)), (0, ())):
        profile = Profile(name="test", cpus=3, minutes=10, gpus=gpus)
        submission = Submission([job], tmp_path, profile, data_root="synthetic", programs=Programs())
        stage = submission._node_stage(job)
        assert stage.command[-2 - len(device) :] == ("stage=probe", *device, "threads=3")
        assert (stage.result, stage.renewed, stage.copy_data_to) == ("result.json", False, None)


def test_an_earlier_report_is_no_proof_of_a_new_one(tmp_path: Path) -> None:
    report = Job("report", "report", (str(tmp_path), "--out", "out"), (), tmp_path / "out")
    profile = Profile(name="test", cpus=1, minutes=10)
    stage = Submission([report], tmp_path, profile, data_root="synthetic", programs=Programs())._node_stage(report)
    assert (stage.command[-3:], stage.result, stage.renewed) == (report.overrides, "report.pdf", True)


def test_a_queued_run_whose_parent_is_submitted_again_gets_a_new_job(folder: Path, tmp_path: Path) -> None:
    """Its queued job would wait for ever for the parent's earlier job, which has left the queue."""
    parent = Job("a", "probe", (), (), folder / "a", seed=0)
    child = Job("b", "ood", (), ("a",), folder / "b", seed=0)
    profile = Profile(name="test", cpus=1, minutes=10)
    submission = Submission([parent, child], folder, profile, data_root="synthetic", programs=Programs())
    assert submission.submit().submitted == ["a", "b"]
    queue = tmp_path / "one.conf"
    first = queue.read_text().splitlines()
    queue.write_text(f"{first[1]}\n")
    assert submission.submit().submitted == ["a", "b"]
    assert first[1] not in queue.read_text().splitlines()
    assert len(queue.read_text().splitlines()) == 2


def test_a_queued_run_with_other_settings_is_refused(folder: Path) -> None:
    profile = Profile(name="test", cpus=1, minutes=10)

    def submit(*overrides: str) -> list[str]:
        job = Job("a", "probe", overrides, (), folder / "a", seed=0)
        return Submission([job], folder, profile, data_root="synthetic", programs=Programs()).submit().queued

    assert submit("probe.l2=1") == []
    assert submit("probe.l2=1", "threads=2") == ["a"]
    with pytest.raises(BadInput, match=r"a is in the queue with other settings \(there: probe.l2=1; now: probe.l2=2\)"):
        submit("probe.l2=2")
