"""Complete runs count for a study only if they were made with its settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from jobs.plan.graph import Job
from jobs.plan.record import record_plan
from jobs.plan.settings import configure, plan_study
from ssl_pkg.config.compose import load_config
from ssl_pkg.errors import BadInput
from ssl_pkg.run.compatibility import recorded_config


def complete(job: Job) -> None:
    """Writes the files of a complete run that the check reads."""
    job.run_dir.mkdir()
    config = recorded_config(load_config(job.overrides), {"files": {}}, threads=1, device="cpu", world_size=1)
    (job.run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    (job.run_dir / "result.json").write_text(json.dumps({"seconds": 1}))


def test_complete_runs_with_other_settings_are_refused(tmp_path: Path) -> None:
    config = configure("demo", data=None, seeds=None, overrides=[])

    def again(*overrides: str) -> int:
        return len(plan_study(config, runs=tmp_path, reports=tmp_path, overrides=overrides))

    jobs = plan_study(config, runs=tmp_path, reports=tmp_path, overrides=["budget=tiny"])
    folder = tmp_path / "demo"
    folder.mkdir()
    record_plan(folder, jobs)
    assert again() == len(jobs)  # nothing is complete yet

    run = folder / "pretrain-byol-s0"
    run.mkdir()
    (run / "result.json").write_text(json.dumps({"seconds": 1}))
    assert again("budget=tiny") == len(jobs)
    assert again("budget=tiny", "threads=2", "device=cpu") == len(jobs)
    assert again("budget=tiny", "finetune.epochs=2") == len(jobs)  # pretraining doesn't read it
    with pytest.raises(
        BadInput, match=r"byol-s0 is complete with other settings \(there: budget=tiny; now: the defaults\)"
    ):
        again()


@pytest.mark.parametrize("plan", [None, "{}", "not JSON"], ids=["missing", "empty", "damaged"])
def test_without_a_plan_the_configuration_of_a_complete_run_is_compared(tmp_path: Path, plan: str | None) -> None:
    config = configure("demo", data=None, seeds=None, overrides=[])

    def again(*overrides: str) -> int:
        return len(plan_study(config, runs=tmp_path, reports=tmp_path, overrides=overrides))

    job = plan_study(config, runs=tmp_path, reports=tmp_path, overrides=["budget=tiny"])[0]
    job.run_dir.parent.mkdir()
    complete(job)
    if plan is not None:
        (job.run_dir.parent / "plan.json").write_text(plan)
    assert again("budget=tiny")
    assert again("budget=tiny", "threads=2")
    with pytest.raises(
        BadInput,
        match=rf"{job.name} was started with another configuration \(budget.blur: 1.0 -> 0.0, budget.max_steps: 8",
    ):
        again()


def test_other_words_for_the_same_settings_are_accepted(tmp_path: Path) -> None:
    config = configure("demo", data=None, seeds=None, overrides=[])
    jobs = plan_study(config, runs=tmp_path, reports=tmp_path, overrides=["budget=tiny"])
    jobs[0].run_dir.parent.mkdir()
    record_plan(jobs[0].run_dir.parent, jobs)
    complete(jobs[0])
    for words in (['budget="tiny"'], ["budget=tiny", "compile=auto"]):
        assert plan_study(config, runs=tmp_path, reports=tmp_path, overrides=words)


@pytest.mark.parametrize("run_format", [None, 1])
def test_the_plan_of_an_earlier_version_does_not_hide_that_its_settings_meant_something_else(
    tmp_path: Path, run_format: int | None
) -> None:
    config = configure("demo", data=None, seeds=None, overrides=[])
    jobs = plan_study(config, runs=tmp_path, reports=tmp_path)
    folder = tmp_path / "demo"
    folder.mkdir()
    record_plan(folder, jobs)
    complete(replace(jobs[0], overrides=(*jobs[0].overrides, "budget=tiny")))  # the study's budget was another one
    written = json.loads((folder / "plan.json").read_text())
    for run in written["runs"]:
        del run["run_format"]
        run.update({} if run_format is None else {"run_format": run_format})
    (folder / "plan.json").write_text(json.dumps(written))
    with pytest.raises(BadInput, match=rf"{jobs[0].name} was started with another configuration \(budget.blur: 1.0"):
        plan_study(config, runs=tmp_path, reports=tmp_path)


def test_a_complete_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    config = configure("demo", data=None, seeds=None, overrides=[])
    job = plan_study(config, runs=tmp_path, reports=tmp_path)[0]
    job.run_dir.parent.mkdir()
    complete(job)
    file = job.run_dir / "config.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(file.read_text()).items() if k != "run_format"}))
    with pytest.raises(BadInput, match="was made by an earlier version of this project: give another run_dir"):
        plan_study(config, runs=tmp_path, reports=tmp_path)
