import os
from pathlib import Path

import pytest

from jobs.plan.graph import Job, plan, remaining_cost, starting_order
from jobs.plan.sweeps import reads
from ssl_pkg.catalogue import EVALUATIONS, STAGES, Stage, Weights
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.overrides import split_literals
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.errors import BadInput

METHODS = ("supervised", "simclr", "byol", "moco")


def planned(
    *, methods: tuple[str, ...] = METHODS, seeds: tuple[int, ...] = (0,), overrides: tuple[str, ...] = ()
) -> dict[str, Job]:
    study = StudyConfig(name="demo", methods=methods, seeds=seeds, cpus=1)
    places = {"runs": Path("runs"), "reports": Path("reports")}
    jobs = plan(study, **places, data_root="synthetic", overrides=overrides)
    assert len({job.name for job in jobs}) == len(jobs)
    assert len({job.run_dir for job in jobs}) == len(jobs)
    return {job.name: job for job in jobs}


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
@pytest.mark.parametrize("methods", [METHODS, ("byol",), ("supervised",), (), ("supervised", "other")])
def test_every_model_of_every_seed_is_evaluated(methods: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    jobs = planned(methods=methods, seeds=seeds)
    ssl = [method for method in methods if method != "supervised"]
    finals = len(methods) - len(ssl) + 2 * len(ssl) + 1
    starts = [STAGES[stage].starts_from for stage in EVALUATIONS]
    evaluations = starts.count(Weights.FINAL_MODEL) * finals + starts.count(Weights.ENCODER) * (len(ssl) + 1)
    assert len(jobs) == len(seeds) * (len(methods) + 2 * len(ssl) + 1 + evaluations) + 1
    for seed in seeds:
        for stage in ("ood", "embed", "width"):
            assert f"{stage}-random-probe-s{seed}" in jobs
            assert all(f"{stage}-{method}-{how}-s{seed}" in jobs for method in ssl for how in ("probe", "finetune"))


def test_an_evaluation_of_encoders_is_planned_for_each_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("invariance", "Invariance", starts_from=Weights.ENCODER, leaves=Weights.NONE)
    monkeypatch.setitem(STAGES, stage.name, stage)
    monkeypatch.setattr("jobs.plan.graph.EVALUATIONS", (*EVALUATIONS, stage.name))
    jobs = planned(methods=("supervised", "byol"))
    found = {job.name: (job.model, job.parents) for job in jobs.values() if job.stage == stage.name}
    assert found == {
        "invariance-byol-s0": ("byol", ("pretrain-byol-s0",)),
        "invariance-random-s0": ("random", ()),
    }
    assert "source=random" in jobs["invariance-random-s0"].overrides


def test_parents_exist_and_come_first() -> None:
    seen: set[str] = set()
    for name, job in planned(seeds=(0, 1)).items():
        assert set(job.parents) <= seen
        seen.add(name)
    assert name == "report"


def test_a_run_starts_from_its_parents_run_directory() -> None:
    jobs = planned()
    assert jobs["probe-byol-s0"].overrides == (
        "study=demo",
        "stage=probe",
        "seed=0",
        "source=runs/demo/pretrain-byol-s0",
        "data.root=synthetic",
        "run_dir=runs/demo/probe-byol-s0",
    )
    assert "source=random" in jobs["probe-random-s0"].overrides
    assert jobs["probe-random-s0"].parents == ()
    assert jobs["finetune-random-s0"].model == "supervised" and jobs["finetune-random-s0"].parents == ()
    assert "source=random" in jobs["finetune-random-s0"].overrides
    assert jobs["ood-supervised-s0"].parents == ("finetune-random-s0",)
    assert "source=runs/demo/finetune-moco-s0" in jobs["width-moco-finetune-s0"].overrides
    assert jobs["report"].overrides == ("runs/demo", "--out", "reports/demo")
    assert set(jobs["report"].parents) == jobs.keys() - {"report"}


def test_methods_and_seeds_that_are_given_twice_count_once() -> None:
    assert planned(methods=("byol", "byol"), seeds=(1, 1)) == planned(methods=("byol",), seeds=(1,))


@pytest.mark.slow
def test_every_job_has_a_valid_configuration() -> None:
    for job in planned(overrides=("budget=tiny", "finetune.epochs=2")).values():
        if job.stage != "report":
            config = load_config(list(job.overrides))
            assert (config.stage, config.seed, Path(config.run_dir)) == (job.stage, 0, job.run_dir)
            assert config.budget.name == "tiny"
            if job.stage == "pretrain":
                assert config.method
                assert config.method.name == job.model


def test_overrides_go_to_the_stages_that_read_them() -> None:
    jobs = planned(overrides=("precision=float32", "method.epochs=3", "finetune.epochs=2", "study.seeds=[1]"))
    own = {"precision=float32", "method.epochs=3", "finetune.epochs=2", "study.seeds=[1]"}
    assert own.intersection(jobs["pretrain-byol-s0"].settings) == {"precision=float32", "method.epochs=3"}
    assert own.intersection(jobs["finetune-byol-s0"].settings) == {"precision=float32", "finetune.epochs=2"}
    assert own.intersection(jobs["ood-byol-probe-s0"].settings) == {"precision=float32"}
    assert reads("pretrain", "pretrain.knn_every=1")
    assert reads("ood", "+new=1")
    assert not reads("ood", "+width.images=1")


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (("budget.max_steps=40", "budget=tiny"), None),
        (("budget=quick", "budget.max_steps=40", "budget=tiny"), None),
        (("budget=tiny",), "there: budget.max_steps=40; now: the defaults"),
        (("budget=tiny", "budget.max_steps=41"), "there: budget.max_steps=40; now: budget.max_steps=41"),
    ],
)
def test_settings_differ_by_their_values_and_not_by_their_order(now: tuple[str, ...], difference: str | None) -> None:
    earlier = planned(overrides=("budget=tiny", "budget.max_steps=40"))["pretrain-byol-s0"].planned()
    job = planned(overrides=now)["pretrain-byol-s0"]
    assert job.difference(earlier) == difference
    assert job.difference(None) is None


HOSTILE = (
    "José", "Łódź/a", "a b", "it's", 'say "a"', "a#b", "(2)", "x[", "]y", "{a: 1}", "a,b", "a=b", "$HOME", "${seed}",
    "${x", "back\\slash", "a\\'b", "123", "20250101", "2025_01_01", "1e5", "null", "true", "nan", "???", "-", "'a'",
    "画像", "🜚", "a;b&c|d", "*", "~", "~nobody-here", "a@b:c", "+a", "./random", "./synthetic", "s0-temperature=0.1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_path_is_everything_after_the_first_equals_sign(name: str) -> None:
    """Neither Hydra nor a shell parses the paths of a plan."""
    study = StudyConfig(name="demo", methods=("simclr",), seeds=(0,), cpus=1)
    data_root = str(Path.home()) if name == "~" else name
    jobs = {job.stage: job for job in plan(study, runs=Path("/r") / name, reports=Path("/r"), data_root=name)}
    config = load_config(list(jobs["finetune"].overrides))
    assert config.run_dir == str(jobs["finetune"].run_dir)
    assert config.source == str(Path("/r") / name / "demo" / "pretrain-simclr-s0")
    assert config.data.root == data_root
    for prefix in ("", "+", "++"):
        literal, others = split_literals(
            [f"{prefix}{key}={name}" for key in ("source", "run_dir", "data.root", "variant")]
        )
        assert list(literal.values()) == [data_root, data_root, data_root, name]
        assert others == []


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("run_dir=", "run_dir is empty: give a folder, like run_dir=runs/try/a"),
        ("data.root=a\nb", r"data.root='a\\nb' has a control character, such as a line break: rename the folder"),
        ("source=a\0b", "has a control character"),
        ("run_dir=\x1b[2J", "has a control character"),
        (
            "run_dir=caf\udce9",
            r"run_dir='caf\\udce9' can't be decoded in this locale: rename the folder, or set another",
        ),
    ],
)
def test_a_path_with_unprintable_characters_is_refused(word: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as caught:
        split_literals([word])
    str(caught.value).encode("ascii")


def test_long_chains_come_first() -> None:
    jobs = list(planned().values())
    lengths = remaining_cost(jobs)
    first = sorted(jobs, key=lambda job: -lengths[job.name])
    assert [job.name for job in first[:4]] == [
        "pretrain-simclr-s0",
        "pretrain-byol-s0",
        "pretrain-moco-s0",
        "finetune-random-s0",
    ]
    assert first[-1].name == "report"
    assert all(lengths[parent] > lengths[job.name] for job in jobs for parent in job.parents)


def test_of_ready_runs_probes_start_first_and_then_those_on_the_longest_chain() -> None:
    order = starting_order(list(planned().values()))
    assert [job.stage for job in order if not job.parents] == ["probe", *["pretrain"] * 3, "finetune", "few_labels"]
    after = [job.stage for job in order if job.parents == ("pretrain-byol-s0",)]
    assert after == ["probe", "finetune", "few_labels"]
    assert order[-1].stage == "report"


def test_a_report_is_complete_if_no_result_is_newer(tmp_path: Path) -> None:
    out, run = tmp_path / "reports", tmp_path / "runs" / "a"
    report = Job("report", "report", (str(run.parent), "--out", str(out)), (), out)
    assert not report.complete
    run.mkdir(parents=True)
    out.mkdir()
    (run / "result.json").write_text("{}")
    (out / "report.pdf").touch()
    assert report.complete
    newer = (out / "report.pdf").stat().st_mtime_ns + 1_000_000
    os.utime(run / "result.json", ns=(newer, newer))
    assert not report.complete


@pytest.mark.parametrize("given", [(), ("device=cpu",), ("+device=cpu",), ("++device=auto",)])
def test_on_a_slot_with_a_gpu_a_stage_must_use_it_unless_the_user_gives_a_device(given: tuple[str, ...]) -> None:
    job = planned(overrides=given)["pretrain-byol-s0"]
    assert job.stage_arguments(4) == (*job.overrides, "threads=4")
    assert job.stage_arguments(4, gpu=True) == (*job.overrides, *(() if given else ("device=cuda",)), "threads=4")
    assert job.settings == planned()["pretrain-byol-s0"].settings
