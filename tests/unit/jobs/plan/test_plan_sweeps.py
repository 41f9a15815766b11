from pathlib import Path

import pytest

from jobs.plan.graph import Job, plan
from jobs.plan.sweeps import expand_sweep, variant_of
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.errors import BadInput


def planned(*overrides: str, methods: tuple[str, ...] = ("supervised", "simclr")) -> dict[str, Job]:
    study = StudyConfig(name="demo", methods=methods, seeds=(0, 1), cpus=1)
    jobs = plan(study, runs=Path("runs"), reports=Path("reports"), data_root="synthetic", overrides=overrides)
    assert len({job.run_dir for job in jobs}) == len(jobs)
    return {job.name: job for job in jobs}


def test_each_swept_value_has_its_own_runs_of_the_stages_that_read_it_and_of_their_children() -> None:
    jobs = planned("method.model.temperature=0.1,0.5", methods=("simclr",))
    assert "pretrain-simclr-s0" not in jobs
    for value in ("0.1", "0.5"):
        pretrain = jobs[f"pretrain-simclr-s0-temperature={value}"]
        assert f"method.model.temperature={value}" in pretrain.overrides
        ood = jobs[f"ood-simclr-probe-s1-temperature={value}"]
        assert ood.parents == (f"probe-simclr-s1-temperature={value}",)
        assert not any(override.startswith("method.") for override in ood.overrides)
        assert f"variant=temperature={value}" in ood.overrides
    assert "probe-random-s0" in jobs, "the random network has no temperature"


def test_a_sweep_of_a_probes_field_adds_no_pretraining_and_no_fine_tuning() -> None:
    jobs = planned("probe.max_iterations=10,20")
    assert {"pretrain-simclr-s0", "finetune-simclr-s0", "ood-simclr-finetune-s0"} <= jobs.keys()
    assert {"probe-simclr-s0-max_iterations=10", "width-simclr-probe-s0-max_iterations=20"} <= jobs.keys()
    assert jobs["probe-simclr-s0-max_iterations=10"].parents == ("pretrain-simclr-s0",)


def test_two_sweeps_are_combined() -> None:
    jobs = planned("method.model.temperature=0.1,0.5", "budget.ssl_epochs=1,2", methods=("simclr",))
    names = [name for name in jobs if name.startswith("pretrain-simclr-s0")]
    assert len(names) == 4
    assert "pretrain-simclr-s0-temperature=0.5,ssl_epochs=2" in names
    assert "probe-random-s0-ssl_epochs=1" in jobs, "the budget is read by every stage"


@pytest.mark.slow
def test_every_run_of_a_sweep_has_a_command_line_that_composes() -> None:
    for job in planned("method.model.temperature=0.1,0.5", methods=("simclr",)).values():
        if job.stage != "report":
            config = load_config(list(job.overrides))
            assert config.run_dir == str(job.run_dir)
            assert config.variant == job.variant


@pytest.mark.parametrize("override", ["finetune.base_lrs=[0.1,0.2]", "log_every='1,2'", "log_every=3"])
def test_an_override_that_is_no_sweep_is_passed_unchanged(override: str) -> None:
    assert expand_sweep([override]) == ((override,), [()])


@pytest.mark.parametrize("override", ["a.b=1,", "a.b=[1,2", "a.b=1,{"])
def test_a_malformed_list_is_refused(override: str) -> None:
    with pytest.raises(BadInput, match="can't be read"):
        expand_sweep([override])


def test_variants_are_short_and_unambiguous_and_can_name_folders() -> None:
    assert variant_of(()) == ""
    assert variant_of(("method.model.temperature=0.1",)) == "temperature=0.1"
    assert variant_of(("a.rate=1", "b.rate=2", "c=x/y z")) == "a.rate=1,b.rate=2,c=x_y_z"


def test_a_planned_run_has_its_swept_values_and_its_settings() -> None:
    run = planned("method.model.temperature=0.1,0.5")["probe-simclr-s0-temperature=0.1"].planned()
    assert (run.variant, run.settings) == ("temperature=0.1", ())
    assert run.parents == ("pretrain-simclr-s0-temperature=0.1",)


def test_a_sweep_with_too_long_names_is_an_error() -> None:
    with pytest.raises(BadInput, match="the variants of budget would be longer than 160 bytes"):
        expand_sweep([f"budget={'x' * 160},tiny"])
