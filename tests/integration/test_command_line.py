"""A stage's exit statuses, its run directory and its refusals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file
from stage_runs import command, pretrain, result, run

from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.rows import dimensions_of


def test_a_model_passes_through_all_stages(tmp_path: Path, data: Path) -> None:
    line = command(*pretrain("byol", data, tmp_path / "pretrain"))
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "pretrain/metrics.jsonl").read_text().splitlines()]
    assert all("z_std" in line for line in lines if "loss" in line)
    assert [line["step"] for line in lines] == [2, 4, 5, 6, 8]  # of five steps an epoch
    again = run(*pretrain("byol", data, tmp_path / "pretrain"))
    assert again.returncode == 0
    assert "is complete" in again.stderr

    root = [f"data.root={data}"]
    for stage in ("probe", "finetune"):
        done = run(f"stage={stage}", f"source={tmp_path / 'pretrain'}", f"run_dir={tmp_path / stage}", *root)
        assert done.returncode == 0, done.stderr
        assert result(tmp_path / stage)["model"] == f"byol-{stage}"
        with np.load(tmp_path / stage / "predictions.npz") as predictions:
            accuracy = (predictions["logits"].argmax(axis=1) == predictions["labels"]).mean()
        without_dimensions = [row for row in result(tmp_path / stage)["rows"] if not dimensions_of(row)]
        rows = {(row["evaluation"], row["metric"]): row["value"] for row in without_dimensions}
        assert rows["test", "accuracy"] == pytest.approx(accuracy)
    for stage in ("ood", "embed", "width"):
        done = run(f"stage={stage}", f"source={tmp_path / 'finetune'}", f"run_dir={tmp_path / stage}", *root)
        assert done.returncode == 0, done.stderr
        assert result(tmp_path / stage)["model"] == "byol-finetune"
    with np.load(tmp_path / "embed/tsne.npz") as maps:
        assert maps["frames"].shape[0] == len(maps["frame_steps"]) == 2
    for name in ("config.yaml", "provenance.json", "metrics.jsonl", "status", "result.json", "tensorboard"):
        assert (tmp_path / "pretrain" / name).exists()
    assert json.loads((tmp_path / "pretrain/provenance.json").read_text())["data"]["name"] == "synthetic"


def test_paths_may_have_any_characters_and_a_stage_inherits_the_seed(tmp_path: Path, data: Path) -> None:
    odd = tmp_path / """José's ${seed} "Łódź", (2) [x] {y: 1} #a=b,c $HOME \\ 画像 ~"""
    shutil.copytree(data, odd / "data")
    done = run(*pretrain("simclr", odd / "data", odd / "20250101", "seed=3", "budget.max_steps=1"))
    assert done.returncode == 0, done.stderr
    assert result(odd / "20250101")["seed"] == 3

    probe = ["stage=probe", f"source={odd / '20250101'}", f"run_dir={odd / 'probe'}", f"data.root={odd / 'data'}"]
    for word, sentence in (
        ("seed=7", "whose seed is 3: leave seed out"),
        ("finetune.epochs=3", "stage=probe does not read finetune.epochs"),
    ):
        done = run(*probe, word)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert sentence in done.stderr
    assert not (odd / "probe").exists()
    done = run(*probe)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((odd / "probe" / "config.yaml").read_text(encoding="utf-8"))
    assert (config["seed"], config["budget"]["resolution"], config["run_dir"]) == (3, 32, str(odd / "probe"))
    assert result(odd / "probe")["seed"] == 3

    names = odd / "data" / "stl10_binary" / "class_names.txt"
    names.write_text(names.read_text().replace("\n", "s\n", 1))
    width = ["stage=width", f"source={odd / 'probe'}", f"run_dir={odd / 'width'}", f"data.root={odd / 'data'}"]
    done = run(*width)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "give the data.root of the source" in done.stderr


def test_probing_does_not_change_the_encoder(tmp_path: Path, data: Path) -> None:
    run(*pretrain("moco", data, tmp_path / "pretrain"))
    run("stage=probe", f"source={tmp_path / 'pretrain'}", f"run_dir={tmp_path / 'probe'}", f"data.root={data}")
    before = load_file(tmp_path / "pretrain/encoder.safetensors")
    after = load_file(tmp_path / "probe/model.safetensors")
    assert set(after) - set(before) == {"fc.weight", "fc.bias"}
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weights_name_the_images_of_their_encoder_and_the_licence_that_both_allow(tmp_path: Path, data: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "synthetic.json").unlink()
    run(*pretrain("moco", data, tmp_path / "pretrain"))
    found = {}
    for name, root in (("same", data), ("other", tmp_path / "data")):
        done = run("stage=probe", f"source={tmp_path / 'pretrain'}", f"run_dir={tmp_path / name}", f"data.root={root}")
        assert done.returncode == 0, done.stderr
        with safe_open(tmp_path / name / "model.safetensors", "pt") as file:
            facts = json.loads(file.metadata()["ssl-study"])
        found[name] = [facts.get(key) for key in ("data", "source_data", "license")]
    assert found == {"same": ["synthetic", None, "mit"], "other": ["stand-in", "synthetic", None]}


def test_changed_inputs_of_a_started_run_are_refused(tmp_path: Path, data: Path) -> None:
    other = tmp_path / "other"
    generate(other, Sizes(train_per_class=16, test_per_class=6, unlabeled=160, ood_per_class=3))
    for name in ("simclr", "byol"):
        assert run(*pretrain(name, data, tmp_path / name, "budget.max_steps=1")).returncode == 0
    probe = ["stage=probe", f"run_dir={tmp_path / 'probe'}"]
    assert run(*probe, f"source={tmp_path / 'simclr'}", f"data.root={data}").returncode == 0
    (tmp_path / "probe/result.json").unlink()
    done = run(*probe, f"source={tmp_path / 'simclr'}", f"data.root={other}")
    assert done.returncode == 2
    assert "inputs.stl10_binary/test_X.bin: " in done.stderr
    done = run(*probe, f"source={tmp_path / 'byol'}", f"data.root={data}")
    assert done.returncode == 2
    assert "inputs.source: " in done.stderr


def test_a_run_refuses_another_configuration_or_other_images_whether_or_not_it_is_complete(
    tmp_path: Path, data: Path
) -> None:
    assert run(*pretrain("simclr", data, tmp_path / "run", "budget.max_steps=1")).returncode == 0
    done = run(*pretrain("simclr", data, tmp_path / "run", "budget.max_steps=1", "seed=7"))
    assert done.returncode == 2
    assert "seed: 0 -> 7" in done.stderr
    other = tmp_path / "other"
    shutil.copytree(data, other)
    with (other / "stl10_binary/unlabeled_X.bin").open("r+b") as file:
        file.truncate(3 * 96 * 96)
    done = run(*pretrain("simclr", other, tmp_path / "run", "budget.max_steps=1"))
    assert done.returncode == 2
    assert "is complete, but on other images" in done.stderr
    (tmp_path / "run/result.json").unlink()
    done = run(*pretrain("simclr", data, tmp_path / "run", "budget.max_steps=1", "seed=1"))
    assert done.returncode == 2
    assert "seed: 0 -> 1" in done.stderr


def truncated(root: Path) -> None:
    with (root / "stl10_binary/train_X.bin").open("r+b") as file:
        file.truncate(100_000)


def unchanged(root: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "arguments", "sentence"),
    [  # one of each part that can refuse; the other refusals are in its unit tests
        (truncated, [], "is truncated"),
        (unchanged, ["run_dir=/proc/run"], "can't write run_dir=/proc/run"),
        (unchanged, ["method.model.temprature=1", "sed=1"], "temprature"),
        (unchanged, ["+method.model.extra=1"], "extra"),
        (
            unchanged,
            ["budget.ssl_batch_size=161"],
            "method.batch_size=161 is larger than the split unlabeled, which has 160",
        ),
        (unchanged, ["device=cuda"], "finds no GPU"),
        (unchanged, ["method.views=[]"], "method.views has 0 entries, and simclr takes 2"),
    ],
)
def test_wrong_input_gives_status_2_and_one_sentence_and_leaves_no_files(
    tmp_path: Path, data: Path, damage: object, arguments: list[str], sentence: str
) -> None:
    if arguments == ["device=cuda"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    shutil.copytree(data, tmp_path / "data")
    damage(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    done = run(*pretrain("simclr", tmp_path / "data", tmp_path / "run"), *arguments)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_stages_that_need_a_finished_run_refuse_others(tmp_path: Path, data: Path) -> None:
    for stage, source, sentence in (
        ("probe", tmp_path / "none", "there is no run directory source="),
        ("ood", "random", "evaluates a final model"),
    ):
        done = run(f"stage={stage}", f"source={source}", f"data.root={data}", f"run_dir={tmp_path / 'run'}")
        assert done.returncode == 2, done.stderr
        assert sentence in done.stderr
        assert not (tmp_path / "run").exists()


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path, data: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    line = command(*pretrain("simclr", data, tmp_path))
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not a run" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_help_shows_a_complete_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ssl_pkg", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "stage=pretrain method=simclr" in done.stdout
