import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.plan.record import record_plan
from jobs.plan.settings import check_data, configure, plan_study
from jobs.study_lock import study_lock
from ssl_pkg.cache import synthetic_set
from ssl_pkg.data.stl10 import open_stl10
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.errors import BadInput
from ssl_pkg.run.compatibility import other_data
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.study_plan import StudyPlan, write_plan


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["nope"], "there is no study 'nope': choose one of demo, photos, photos-cpu, photos-quick, stl10"),
        (["stl10"], "study stl10 needs images: give their folder with --data (make: DATA=)"),
        (["stl10", "--data", "nowhere"], "there is no data folder nowhere: give the folder above stl10_binary/ with"),
        (["demo", "data.root=nowhere"], "there is no data folder nowhere"),
        (["demo", "--seeds", "0 a"], "seeds must be whole numbers from 0 to 4294967295, like \"0 1 2\", not '0 a'"),
        (["demo", "--seeds", "-1"], "seeds must be whole numbers"),
        (["demo", "--seeds", ""], "seeds must be whole numbers"),
        (["demo", "nonsense"], "'nonsense' is not of the form KEY=VALUE"),
        (["demo", "stage=ood"], "the plan sets stage= for each run: leave it out"),
        (["demo", "++run_dir=x"], "the plan sets ++run_dir= for each run: leave it out"),
        (
            ["demo", "study.methods=[moco],[simclr]"],
            "study.methods can't be swept, because all runs of a study",
        ),
        (["demo", "data.root=synthetic,/tmp"], "there is no data folder synthetic,/tmp: give the folder"),
        (["demo", "data.root="], "data.root is empty: give a folder"),
        (["demo", "--data", "synthetic", "data.root=/tmp"], "--data synthetic contradicts data.root=/tmp: leave one"),
        (["demo", "log_every=["], "'log_every=[' can't be read, because '[' is neither a word, a number nor a list"),
        (["dmeo"], "there is no study 'dmeo' (did you mean demo?): choose one of demo, photos"),
        (["demo", "budget=tinny"], "there is no budget tinny (did you mean tiny?): give budget= one of"),
        (
            ["demo", "study.methods=[byoll]"],
            "there is no method 'byoll' (did you mean byol?) for study demo",
        ),
        (["demo", "method.temperature=1"], "there is no field method.temperature (did you mean method.model.temperat"),
        (
            ["demo", "method.model.temperature=1"],
            "method byol has no field method.model.temperature, only moco, sim",
        ),
        (
            ["demo", "study.methods=[supervised]", "method.epochs=3"],
            "method.epochs=3 is a setting of a pretraining, and study.methods has none: leave it out",
        ),
        (["demo", "temperature=0.1,1"], "there is no field temperature (did you mean method.model.temperature?): look"),
        (["demo", "--seeds", "4294967296"], "seeds must be whole numbers from 0 to 4294967295, like"),
        (["demo", "method=simclr,byol"], "the plan sets method= for each run: give study.methods=[simclr,byol]"),
        (["demo", "method.model.x=-1,1"], "method.model.x=-1 and method.model.x=1 would have the same name, x=1"),
        (["demo", "budget=none"], "there is no budget none: give budget= one of"),
        (["demo", "method.nothing=1"], "there is no field method.nothing"),
        (["demo", "finetune.epochs=0"], "finetune.epochs=0 is not possible"),
        (
            ["demo", "study.methods=[byol,nope]"],
            "there is no method 'nope' for study demo: choose among supervised, byol, moco",
        ),
        (["demo", "seed=1,2"], "the plan sets seed= for each run"),
        (["demo", "log_every=1,x"], "log_every='x' is not possible"),
        (["demo", "--seed-list", "0"], "there is no option --seed-list"),
        (["demo", "--frobnicate"], "there is no option --frobnicate: see `ssl-study study --help`"),
        ([], "the following arguments are required: STUDY: see `ssl-study study --help`"),
        (["demo", "--seeds", "0 a", "study.seeds=[1]"], "--seeds 0 a contradicts study.seeds=: leave one of them out"),
        (["demo", "--runs", ""], "--runs is empty: give a folder, like --runs=runs"),
        (["demo", "--runs", "a\nb"], "--runs='a\\nb' has a control character, such as a line break: rename"),
        (["demo", "--runs", "file"], "file/demo can't be written: Not a directory; give another folder with --runs"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_no_file(
    line: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["study", *line]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(sentence)
    assert printed.err.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_submit_status_and_cancel_without_a_profile_or_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "demo", "--cluster", "any"]) == 2
    assert "there is no cluster profile 'any'" in capsys.readouterr().err
    for command in ("status", "cancel"):
        assert main([command, "demo"]) == 2
        assert capsys.readouterr().err.startswith("there are no runs in runs/demo")
    assert not list(tmp_path.iterdir())


def study_of(folder: Path, name: str) -> None:
    run = folder / "pretrain-simclr-s0"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "pretrain-simclr-s0.log").write_text("a line\n")
    run.mkdir()
    (run / "config.yaml").touch()
    write_plan(folder, StudyPlan(study=name, runs=()))


def test_a_renamed_study_folder_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study_of(tmp_path / "my runs" / "demo2", "demo")
    line = ["submit", "demo2", "--cluster", "local", "--runs", "my runs"]
    assert main(line) == 2
    assert capsys.readouterr().err == (
        "there is no study 'demo2', but my runs/demo2 has the runs of study demo: "
        "move the folder by `mv 'my runs/demo2' 'my runs/demo'`, then give demo\n"
    )
    (tmp_path / "my runs" / "demo").mkdir()
    assert main(line) == 2
    assert (
        "`mkdir 'my runs/demo2-runs' && mv 'my runs/demo2' 'my runs/demo2-runs/demo'`, then give demo and --runs"
        in (capsys.readouterr().err)
    )


def test_a_study_folder_renamed_before_its_first_run_is_recognized(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").mkdir()
    write_plan(tmp_path / "demo", StudyPlan(study="demo", runs=()))
    (tmp_path / "demo").rename(tmp_path / "demo2")
    assert main(["submit", "demo2", "--cluster", "local", "--runs", str(tmp_path)]) == 2
    assert f"{tmp_path}/demo2 has the runs of study demo: move the folder by `mv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["logs", "pretrain-simcl-s0", "demo"], "no log of 'pretrain-simcl-s0' yet (did you mean pretrain-simclr-s0?)"),
        (["status", "dem"], "there are no runs in it's/dem (did you mean demo?): start the study"),
        (["status", "demo", "seed=1"], "status does not take 'seed=1': see `ssl-study status --help`"),
        (["cancel", "demo", "--runs=x", "--foce"], "there is no option --foce"),
        (
            ["status", "it's/demo"],
            "STUDY=\"it's/demo\" is a path, not the name of a study: give 'demo', and its parent folder",
        ),
        (["status", ""], "STUDY='.' is a path, not the name of a study: give 'demo'"),
        (["statsu", "demo"], "there is no command 'statsu' (did you mean status?): choose one of demo, study, submit"),
        (["logs", "a", "demo", "--lines", "x"], "argument --lines: 'x' is not a whole number from 1"),
    ],
)
def test_a_wrong_line_gets_one_sentence(
    line: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study_of(tmp_path / "it's" / "demo", "demo")
    assert main([*line, *([] if line[0] == "statsu" else ["--runs", "it's"])]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1


def test_advised_commands_have_the_users_folder_and_can_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine" / "demo"
    folder.mkdir(parents=True)
    with study_lock(folder, named=True), pytest.raises(BadInput) as caught, study_lock(folder):
        pass
    for verb in ("status", "cancel"):
        (line,) = re.findall(rf"`((?!make )[^`]* {verb} [^`]*)`", str(caught.value))
        program, *rest = shlex.split(line)
        assert Path(shutil.which(program) or "").samefile(Path(sys.executable).with_name("ssl-study"))
        assert rest == [verb, "demo", "--runs", str(folder.parent)]
        assert f"(or `make {verb} STUDY=demo 'RUNS={tmp_path}/it'\"'\"'s mine'`)" in str(caught.value)


def test_a_home_folder_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    study_of(tmp_path / "runs" / "demo", "demo")
    assert main(["logs", "pretrain-simclr-s0", "demo", "--runs", "~/runs"]) == 0
    assert capsys.readouterr().out == "a line\n"
    for given in ({"data": str(tmp_path)}, {"data": None, "overrides": ["data.root=~"]}):
        config = configure("demo", **{"seeds": None, "overrides": [], **given})
        assert config.data.root == str(tmp_path)


def test_the_users_overrides_reach_the_configuration(tmp_path: Path) -> None:
    data = str(tmp_path)
    config = configure("stl10", data=data, seeds="3, 1 3", overrides=["budget=tiny", "method.epochs=1"])
    assert (config.study.seeds, config.data.root, config.budget.name) == ((3, 1), data, "tiny")
    assert configure("demo", data=None, seeds=None, overrides=[f"data.root={data}"]).data.root == data
    assert configure("demo", data=None, seeds=None, overrides=[]).data.root == "synthetic"


def test_planning_again_gives_the_same_jobs(tmp_path: Path) -> None:
    config = configure("demo", data=None, seeds="0 1", overrides=["budget=tiny"])
    first = plan_study(config, runs=tmp_path, reports=tmp_path, overrides=["budget=tiny"])
    assert plan_study(config, runs=tmp_path, reports=tmp_path, overrides=["budget=tiny"]) == first
    assert not list(tmp_path.iterdir())


def test_a_study_has_one_data_set(tmp_path: Path) -> None:
    images = tmp_path / "images" / "stl10_binary" / "test_X.bin"
    images.parent.mkdir(parents=True)
    images.write_bytes(b"12345")
    run = tmp_path / "demo" / "embed-byol-probe-s0"
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps({"seconds": 1}))
    entry = {"bytes": 5, "md5": hashlib.md5(b"12345").hexdigest()}
    seen = {"name": "stand-in", "root": "/elsewhere", "files": {"stl10_binary/test_X.bin": entry}}
    (run / "provenance.json").write_text(json.dumps({"data": seen}))

    def again(data: str | None) -> None:
        config = configure("demo", data=data, seeds=None, overrides=[])
        plan_study(config, runs=tmp_path, reports=tmp_path)

    again(str(images.parents[1]))  # the same images, which have moved
    for content, data in ((b"54321", str(images.parents[1])), (b"123456", str(images.parents[1])), (b"12345", None)):
        images.write_bytes(content)
        with pytest.raises(BadInput, match=r"byol-probe-s0 is complete on other images .*/elsewhere, now "):
            again(data)


def test_synthetic_images_of_other_sizes_are_other_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder, count in ((tmp_path / "mine", 4), (synthetic_set(), 5)):  # the latter in the place of the default set
        generate(folder, Sizes(train_per_class=2, test_per_class=1, unlabeled=count, ood_per_class=1))
    run = RunDirectory(tmp_path)
    manifest = open_stl10(tmp_path / "mine").manifest
    assert manifest["name"] == "synthetic"
    (run.path / "provenance.json").write_text(json.dumps({"data": manifest}))
    assert other_data(run, str(tmp_path / "mine")) is None
    assert other_data(run, "synthetic") == "the synthetic images"


def test_runs_made_from_earlier_weights_are_refused(tmp_path: Path) -> None:
    tmp_path, config = tmp_path / "my runs", configure("demo", data=None, seeds=None, overrides=[])
    (tmp_path / "demo").mkdir(parents=True)
    record_plan(tmp_path / "demo", plan_study(config, runs=tmp_path, reports=tmp_path))
    parent, child = (tmp_path / "demo" / name for name in ("pretrain-byol-s0", "probe-byol-s0"))
    for moment, run in enumerate((child, parent)):
        run.mkdir(parents=True)
        (run / "result.json").write_text(json.dumps({"weights_sha256": "new"}))
        os.utime(run / "result.json", (moment, moment))
    for weights, outdated in (("new", False), ("old", True)):
        (child / "config.yaml").write_text(f"inputs: {{source: {weights}}}\n")
        with pytest.raises(BadInput, match=f"`rm -r '{child}'` to run it again") if outdated else nullcontext():
            plan_study(config, runs=tmp_path, reports=tmp_path)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "synthetic"
    generate(folder, Sizes(train_per_class=2, test_per_class=1, unlabeled=4, ood_per_class=1))
    check_data(str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["stl10_binary", "cifar-10-batches-bin/test_batch.bin"])
def test_unusable_images_are_refused_before_a_run_starts(
    tmp_path: Path, generated: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(generated, tmp_path / "synthetic")
    (tmp_path / "synthetic" / missing).rename(tmp_path / "away")
    assert main(["study", "demo", "--data", str(tmp_path / "synthetic"), "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err
    assert missing in error and len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_data_without_an_out_of_distribution_set_have_no_ood_runs(
    tmp_path: Path, generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(generated, tmp_path / "synthetic")
    stages = []
    for _ in range(2):
        config = configure("demo", data=str(data), seeds=None, overrides=[])
        stages.append({job.stage for job in plan_study(config, runs=tmp_path / "runs", reports=tmp_path)})
        shutil.rmtree(data / "cifar-10-batches-bin", ignore_errors=True)
    assert stages[0] - stages[1] == {"ood"}
    assert "has no out-of-distribution set (a folder ood, or CIFAR-10)" in capsys.readouterr().err
    check_data(str(data))
