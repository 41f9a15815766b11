"""The options of each kind of job by its profile. tests/slurm shows that SLURM accepts them."""

from pathlib import Path
from typing import Any

import pytest

from jobs.cluster.batches import Batch
from jobs.cluster.profile import Memory, Profile
from jobs.cluster.sbatch import job_parameters
from jobs.plan.graph import plan
from ssl_pkg.catalogue import STAGES
from ssl_pkg.config.schema import StudyConfig


def asked(tmp_path: Path, **sizes: Any) -> dict[str, dict[str, Any]]:
    profile = Profile(**{"name": "test", "cpus": 2, "memory": Memory(per_node=1), "minutes": 10, **sizes})
    study = StudyConfig(name="demo", methods=("byol",), seeds=(0,), cpus=2)
    jobs = plan(study, runs=tmp_path, reports=tmp_path, data_root="synthetic")
    batches = {job: Batch.new("test", (job.name,), ()) for job in jobs}
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
