import errno
import json
import os
from pathlib import Path

import pytest

from jobs.ledger import REPORT
from jobs.plan.graph import Job, plan
from jobs.plan.record import record_plan
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.errors import BadInput
from ssl_pkg.run.compatibility import RUN_FORMAT
from ssl_pkg.run.study_plan import PLAN, StudyPlan, read_plan


def jobs(folder: Path, *methods: str, seed: int = 0, overrides: tuple[str, ...] = ()) -> list[Job]:
    study = StudyConfig(name=folder.name, methods=methods, seeds=(seed,), cpus=1)
    return plan(study, runs=folder.parent, reports=folder.parent, data_root="synthetic", overrides=overrides)


def test_the_file_says_of_each_run_what_it_is(tmp_path: Path) -> None:
    planned = jobs(tmp_path, "byol", overrides=("budget=tiny", "log_every=1"))
    record_plan(tmp_path, planned)
    content = json.loads((tmp_path / PLAN).read_text())
    assert content["study"] == tmp_path.name
    runs = {run["name"]: run for run in content["runs"]}
    assert list(runs) == [job.name for job in planned if job.stage != REPORT]
    assert runs["ood-byol-finetune-s0"] == {
        "name": "ood-byol-finetune-s0",
        "stage": "ood",
        "model": "byol-finetune",
        "method": "byol",
        "adaptation": "finetune",
        "seed": 0,
        "variant": "",
        "parents": ["finetune-byol-s0"],
        "settings": ["budget=tiny", "log_every=1"],
        "run_format": RUN_FORMAT,
    }
    assert (runs["pretrain-byol-s0"]["model"], runs["pretrain-byol-s0"]["adaptation"]) == ("byol", None)
    assert runs["probe-random-s0"]["model"] == "random-probe"


def test_a_later_plan_keeps_runs_that_were_begun_or_are_queued(tmp_path: Path) -> None:
    record_plan(tmp_path, jobs(tmp_path, "byol", overrides=("budget=tiny",)))
    (tmp_path / "pretrain-byol-s0").mkdir()
    record_plan(tmp_path, jobs(tmp_path, "moco"), queued={"probe-byol-s0"})
    merged = read_plan(tmp_path)
    assert merged is not None
    assert [run.name for run in merged.runs][-2:] == ["pretrain-byol-s0", "probe-byol-s0"]
    assert len(merged.runs) == len(jobs(tmp_path, "moco")) - 1 + 2
    baseline, kept = merged.run("probe-random-s0"), merged.run("pretrain-byol-s0")
    assert baseline is not None and baseline.settings == ()
    assert kept is not None and kept.settings == ("budget=tiny",)
    assert merged.run("finetune-byol-s0") is None


def test_a_later_plan_of_the_same_runs_updates_their_settings(tmp_path: Path) -> None:
    record_plan(tmp_path, jobs(tmp_path, "byol", overrides=("budget=tiny",)))
    names = [path.name for path in tmp_path.iterdir()]
    for settings in (("budget=tiny", "log_every=1"), ("log_every=1",), ()):
        record_plan(tmp_path, jobs(tmp_path, "byol", overrides=settings))
        updated = read_plan(tmp_path)
        assert updated is not None and {run.settings for run in updated.runs} == {settings}
    assert [path.name for path in tmp_path.iterdir()] == names


@pytest.mark.parametrize("content", ["", "{", "[]", '{"study": "demo"}', '{"study": "demo", "runs": [{"name": 1}]}'])
def test_a_damaged_plan_is_no_plan(tmp_path: Path, content: str) -> None:
    (tmp_path / PLAN).write_text(content)
    assert read_plan(tmp_path) is None
    record_plan(tmp_path, jobs(tmp_path, "byol"))
    assert read_plan(tmp_path) is not None


def test_a_plan_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    planned = jobs(tmp_path, "byol")
    with pytest.raises(BadInput, match=r"plan.json can't be written: No such file or directory; give another folder"):
        record_plan(tmp_path / "gone", planned)
    (tmp_path / PLAN).mkdir()
    with pytest.raises(BadInput, match=r"plan.json can't be written: Is a directory; give another folder with --runs"):
        record_plan(tmp_path, planned)


def test_a_full_disk_is_named_as_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, written: StudyPlan) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("jobs.plan.record.write_plan", full)
    with pytest.raises(BadInput, match=r"No space left on device; free some space, or give another folder with --runs"):
        record_plan(tmp_path, jobs(tmp_path, "byol"))
