"""`ssl-study submit --dry-run` shows the jobs, what they cost and what each profile would send, and changes nothing."""

import re
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.cluster.dry_run import _batches, _sent, _table, _totals
from jobs.cluster.profile import PROFILES, load_profile, profiles
from jobs.plan.estimate import Estimate
from jobs.plan.graph import plan
from jobs.plan.settings import plan_published
from ssl_pkg.config.schema import StudyConfig


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["submit", *words, "--dry-run"]) == 0
    return capsys.readouterr().out


def table(text: str) -> dict[str, tuple[str, int, str]]:
    """The number, the tasks and the third column of each job."""
    rows = re.findall(r"^(\d+) +(\S+) +(\d+)  (.*?) *([\d.]*) *$", text, re.MULTILINE)
    return {name: (number, int(tasks), after.strip()) for number, name, tasks, after, _ in rows}


@pytest.mark.slow
def test_the_table_has_every_run_and_its_dependencies(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = table(shown(capsys, "stl10", "--runs", str(tmp_path)))
    jobs = plan_published("stl10", seeds=None, overrides=[], runs=tmp_path, reports=tmp_path)
    assert sum(tasks for _, tasks, _ in rows.values()) == len(jobs)
    for job in jobs:
        if job.stage == "report":
            assert rows["report"][2] == "all, also failed ones"
        else:
            parent = job.parents[0].removesuffix(f"-s{job.seed}") if job.parents else None
            assert rows[job.group][1:] == (3, f"its task of {rows[parent][0]}" if parent else "")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_single_seed_waits_for_a_job_and_complete_runs_are_left_out(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("stl10", "--seeds", "4", "--runs", str(tmp_path))
    first = shown(capsys, *words)
    rows = table(first)
    assert rows["probe-moco-s4"] == (rows["probe-moco-s4"][0], 1, rows["pretrain-moco-s4"][0])
    run = tmp_path / "stl10" / "pretrain-moco-s4"
    run.mkdir(parents=True)
    (run / "result.json").write_text('{"seconds": 1}')
    second = shown(capsys, *words)
    assert "complete" not in first.splitlines()[0] and "; 1 complete" in second.splitlines()[0]
    assert "pretrain-moco-s4" not in table(second) and table(second)["probe-moco-s4"][2] == ""


@pytest.mark.slow
def test_the_gpu_hours_of_pretraining_are_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One seed: 200 epochs of 390 batches at the documented rates, and 40 s for compiling."""
    seconds = sum(40 + 200 * 390 * 256 / rate for rate in (27_000, 17_700, 28_200))
    text = shown(capsys, "stl10", "--seeds", "0", "--runs", str(tmp_path))
    assert f"GPU time: {seconds / 3600:.1f} hours of an H100 for pretraining, from measured rates" in text
    assert f"{40 / 3600 + 200 * 390 * 256 / 17_700 / 3600:.2f}" in text


@pytest.mark.slow
def test_every_profile_is_shown_or_the_given_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    everything = shown(capsys, "stl10", "--runs", str(tmp_path))
    assert re.findall(r"^(\S+?):? (?:sends|the runs)", everything, re.MULTILINE) == profiles()
    words = ("demo", "--runs", str(tmp_path), "study.methods=[simclr]")  # eight processes do not suit MoCo's bn_splits
    text = shown(capsys, *words, "--cluster", "example-multinode")
    sent = dict(re.findall(r"^  (pretraining|other stages|report): (.*)$", text, re.MULTILINE))
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--partition=booster"} <= {
        *sent["pretraining"].split()
    }
    assert {"--nodes=1", "--ntasks-per-node=1", "--gpus-per-node=1", "--kill-on-invalid-dep=yes"} <= {
        *sent["other stages"].split()
    }
    assert "--gpus" not in sent["report"] and "kill-on-invalid-dep" not in sent["report"]


def test_without_a_cluster_only_a_dry_run_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "stl10"]) == 2
    assert "give the cluster with --cluster, or --dry-run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_profile_that_cannot_be_used_has_its_error_in_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.yaml").write_text("colour: red")
    (tmp_path / "local.yaml").write_text((PROFILES / "local.yaml").read_text())
    monkeypatch.setattr("jobs.cluster.profile.PROFILES", tmp_path)
    text = shown(capsys, "demo", "--runs", str(tmp_path))
    first, second = text.rstrip().split("\n\n")[-2:]
    assert "broken" in first and "colour" in first and second.startswith("local: the runs")


def test_the_report_is_missing_only_if_a_run_is_or_it_is_old(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("stl10", "--seeds", "0", "--runs", str(tmp_path), "--reports", str(tmp_path / "reports"))
    overrides = ["study.methods=[supervised]"]
    jobs = plan_published("stl10", seeds="0", overrides=overrides, runs=tmp_path, reports=tmp_path / "reports")
    for job in jobs[:-1]:
        job.run_dir.mkdir(parents=True)
        (job.run_dir / "result.json").write_text('{"seconds": 1}')
    assert ": the report in 1 job " in shown(capsys, *words, *overrides)
    jobs[-1].run_dir.mkdir(parents=True)
    (jobs[-1].run_dir / "report.pdf").touch()
    assert shown(capsys, *words, *overrides) == "stl10 is complete: nothing would be submitted.\n"
    (jobs[0].run_dir / "result.json").unlink()
    assert "1 run and the report in 2 jobs" in shown(capsys, *words, *overrides)


@pytest.mark.slow
def test_batches_are_divided_among_the_processes_of_the_profile(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["submit", "stl10", "--dry-run", "--runs", str(tmp_path), "method.batch_size=100"]
    words += ["study.methods=[simclr]"]
    assert main(words) == 0
    assert main([*words, "--cluster", "example-multinode"]) == 2  # of two nodes with four processes each
    assert "=100 must be a multiple of the world size 8" in capsys.readouterr().err


@pytest.mark.slow
def test_hours_that_are_not_measured_are_called_a_guess(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = shown(capsys, "stl10", "--runs", str(tmp_path))
    assert re.search(r"about [\d.]+ hours for the other runs, which are guessed", text)


def test_the_totals_count_every_run_and_the_duration_is_that_of_the_longest_chain() -> None:
    """Hours and MB of each stage, of two seeds of one method and of the baseline."""
    hours = {"pretrain": 3.0, "finetune": 2.0, "probe": 0.5, "report": 0.0}
    study = StudyConfig(name="small", methods=("byol", "supervised"), seeds=(0, 1), cpus=1)
    jobs = plan(study, runs=Path("-"), reports=Path("-"), data_root="-")
    estimates = {job.name: Estimate(3600 * hours.get(job.stage, 0.25), 1500.0, job.stage == "pretrain") for job in jobs}
    total = sum(each.gpu_seconds for each in estimates.values()) / 3600
    _, gpu, duration, disk = _totals(jobs, estimates)
    assert gpu.startswith("GPU time: 6.0 hours of an H100 for pretraining")
    assert f"about {total - 6:.1f} hours for the other runs" in gpu
    assert duration.startswith("Duration: about 5.2 hours")  # pretraining, fine-tuning and an evaluation
    assert disk == f"Disk: at most {1.5 * len(jobs):.1f} GB, and up to {0.2 * 6:.1f} GB more while all trainings run."
    columns = _table(list(_batches(jobs)), estimates).columns
    shown = dict(zip(columns[1].cells, columns[4].cells, strict=True))
    assert (shown["pretrain-byol"], shown["finetune-byol"], shown["report"]) == ("6.00", "4.00", "")


@pytest.mark.parametrize(("name", "without"), [("testbed", True), ("example-gpu", False)])
def test_a_profile_without_a_gpu_is_no_reason_for_the_gpu_time(name: str, without: bool, tmp_path: Path) -> None:
    study = StudyConfig(name="small", methods=("supervised",), seeds=(0,), cpus=1)
    jobs = plan(study, runs=tmp_path, reports=tmp_path, data_root="-")
    lines = _sent(load_profile(name), list(_batches(jobs)), tmp_path / "small")
    assert ("  The profile has no GPU, so the GPU time above does not apply to it." in lines) is without
