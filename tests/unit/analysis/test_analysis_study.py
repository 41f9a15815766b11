import json
from pathlib import Path

import pytest
import yaml
from fake_contents import model_of, models_of
from fake_reports import Whole
from fake_study import DATE, FakeStudy

from analysis import planned, report, tables
from analysis.figures import style
from analysis.reading import NoStudy, read_study
from analysis.sections import provenance
from analysis.widths import setting
from analysis.words import language
from ssl_pkg.run.study_plan import PLAN


def test_a_whole_study_has_no_missing_run(whole: Whole) -> None:
    assert whole.study.missing == []
    assert len(whole.study.planned) == len(whole.study.runs) == 35
    assert whole.study.notes == ()


def test_a_missing_folder_and_a_folder_without_complete_runs_are_refused(tmp_path: Path, fake: FakeStudy) -> None:
    with pytest.raises(NoStudy, match="there is no folder"):
        read_study(tmp_path / "nowhere")
    fake.pretrain("simclr", complete=False)
    with pytest.raises(NoStudy, match="holds no complete run"):
        read_study(fake.path)


@pytest.mark.slow
def test_a_study_of_one_method_is_complete_and_mentions_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeStudy(tmp_path / "study", methods=("simclr",), images=100, points=30, steps=12).whole()
    study = read_study(fake.path)
    assert study.missing == []
    assert study.methods == ("simclr",)
    assert study.models == models_of("random-probe", "simclr-probe", "simclr-finetune")
    monkeypatch.setattr(style, "save", lambda figure, folder, name: folder / name)
    with style.styled():
        content = report.content(study, tmp_path, DATE)
    assert planned.incomplete(study) == ""
    assert planned.runs(study) == f"All {len(study.runs)} planned runs are complete."
    assert dict(provenance.facts(study))["Methods"] == "SimCLR"
    sections = [section for section in content["sections"] if section["title"] != "Sources"]
    text = json.dumps([content["title"], content["subtitle"], sections]).lower()
    assert [name for name in ("supervised baseline", "byol", "moco") if name in text] == []


def test_a_seed_that_is_planned_later_is_part_of_the_study(fake: FakeStudy) -> None:
    fake.finetune("random", 0)
    fake.seeds = (0, 1)
    fake.write_plan()
    fake.finetune("random", 1)
    study = read_study(fake.path)
    assert study.seeds == (0, 1)
    assert ("probe", model_of("random-probe"), 1) in study.missing


def test_an_unfinished_run_is_identified_and_named_as_missing(fake: FakeStudy) -> None:
    fake.finetune("random")
    fake.pretrain("simclr", complete=False)
    fake.probe("simclr").joinpath("result.json").unlink()
    fake.ood("simclr-probe").joinpath("result.json").unlink()
    study = read_study(fake.path)
    assert {(run.stage, run.model) for run in study.runs if not run.complete} == {
        ("pretrain", model_of("simclr")),
        ("probe", model_of("simclr-probe")),
        ("ood", model_of("simclr-probe")),
    }
    assert ("ood", model_of("simclr-probe"), 0) in study.missing
    assert ("finetune", model_of("supervised"), 0) not in study.missing
    frame = tables.runs(study).set_index(["stage", "model"])
    assert frame.loc[("pretrain", "simclr"), "state"] == "unfinished, step 12 of 36 of pretrain"
    assert frame.loc[("width", "moco-finetune"), "state"] == "not started"
    assert "pretrain (3), probe (4)" in planned.grouped(study.missing)
    assert planned.grouped(study.missing[:2]) == "pretrain of simclr and byol (seed 0)"


def test_a_folder_without_a_plan_reports_its_runs_and_says_so(fake: FakeStudy) -> None:
    fake.finetune("random")
    fake.pretrain("simclr")
    fake.probe("simclr").joinpath("result.json").unlink()
    fake.probe("random").joinpath("result.json").unlink()
    (fake.path / PLAN).unlink()
    study = read_study(fake.path)
    assert [(run.stage, run.model.name) for run in study.runs] == [
        ("pretrain", "simclr"),
        ("probe", "random-probe"),
        ("probe", "simclr-probe"),
        ("finetune", "supervised"),
    ]
    assert study.methods == ("supervised", "simclr")
    assert study.missing == []
    assert planned.runs(study) == (
        "2 of the 4 runs that were started are complete. Missing runs are not known, because the study has no usable "
        "plan.json."
    )


def test_a_renamed_copy_of_a_study_gives_the_same_numbers(fake: FakeStudy) -> None:
    fake.finetune("random")
    fake.probe("simclr")
    study = read_study(fake.path)
    copy = read_study(fake.path.rename(fake.path.with_name("copy")))
    assert copy.missing == study.missing
    assert copy.results.equals(study.results)


def test_damaged_files_are_named_and_ignored(fake: FakeStudy) -> None:
    run = fake.finetune("random")
    with (run / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 16, "epoch": 6, "lo')
    (fake.probe("simclr") / "result.json").write_text('{"stage": "pro')
    (fake.probe("byol") / "result.json").write_text(
        '{"stage": "probe", "model": "byol-probe", "method": "byol", "adaptation": "probe", "seed": 0}'
    )
    result = json.loads((fake.probe("moco") / "result.json").read_text())
    del result["adaptation"]
    (fake.path / "probe-moco-s0" / "result.json").write_text(json.dumps(result))
    (fake.embed("supervised") / "tsne.npz").write_bytes(b"PK\x03\x04 torn")
    study = read_study(fake.path)
    by_name = {found.directory.name: found for found in study.runs}
    assert len(by_name[run.name].metrics) == 15
    assert not by_name["probe-simclr-s0"].complete
    assert not by_name["probe-byol-s0"].complete
    assert study.notes == (
        "probe-byol-s0: result.json has a wrong entry rows = None: Input should be a valid list; the run counts as "
        "unfinished.",
        "probe-moco-s0: result.json has no usable 'adaptation'; the run counts as unfinished.",
        "probe-simclr-s0: result.json can't be read; the run counts as unfinished.",
        "embed-supervised-s0: tsne.npz is damaged; the file is ignored.",
    )
    assert by_name["embed-supervised-s0"].arrays("tsne.npz", "train") is None


def test_a_metrics_log_that_lost_lines_is_named(fake: FakeStudy) -> None:
    path = fake.pretrain("simclr") / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    study = read_study(fake.path)
    assert study.notes == (
        "pretrain-simclr-s0: metrics.jsonl is not as the run left it; its curves show what can be read.",
    )
    assert len(study.runs[0].metrics) == len(lines) - 1


def test_notes_and_states_are_in_the_language_of_the_report_but_the_table_of_runs_is_not(fake: FakeStudy) -> None:
    fake.finetune("random")
    fake.pretrain("simclr", complete=False)
    (fake.probe("simclr") / "result.json").write_text('{"stage": "pro')
    frame = tables.runs(read_study(fake.path))
    with language("ru"):
        study = read_study(fake.path)
        assert study.notes == ("probe-simclr-s0: result.json не читается; запуск считается незавершённым.",)
        assert [run.state for run in study.of("pretrain")] == ["не завершён, шаг 12 из 36 (pretrain)"]
        assert tables.runs(study).equals(frame)


def test_of_two_copies_of_a_run_one_is_used(fake: FakeStudy) -> None:
    run = fake.finetune("random")
    run.rename(run.with_name("copy"))
    fake.finetune("random")
    (fake.path / "plan.json").unlink()
    study = read_study(fake.path)
    assert [found.directory.name for found in study.runs] == ["copy"]
    assert study.notes == ("finetune-random-s0: excluded, because copy has the same stage, model and seed.",)
    fake.write_plan()
    study = read_study(fake.path)
    assert [found.directory.name for found in study.runs] == ["finetune-random-s0"]


def test_models_are_in_the_order_of_the_study(whole: Whole) -> None:
    assert whole.study.models == [
        *models_of("random-probe", "supervised"),
        *models_of(*(f"{method}-{use}" for method in ("byol", "barlow") for use in ("probe", "finetune"))),
    ]


def test_a_seed_that_is_no_number_is_named(fake: FakeStudy) -> None:
    fake.probe("random")
    config = fake.pretrain("byol", complete=False) / "config.yaml"
    config.write_text(config.read_text().replace("\nseed: 0\n", "\nseed: first\n"))
    study = read_study(fake.path)
    assert "pretrain-byol-s0: the seed in config.yaml, 'first', is not a whole number." in study.notes
    assert [run.seed for run in study.of("pretrain")] == [0]


def test_a_configuration_without_values_for_a_stage_has_no_settings(fake: FakeStudy) -> None:
    config = fake.width("byol-probe") / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"width": None}))
    assert setting(read_study(fake.path), "images") is None
