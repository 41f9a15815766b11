"""The contract of `python -m ssl_pkg`: its exit statuses, its run directory, and exactness after an interruption."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from ssl_pkg.data.synthetic import Sizes, generate

SMALL = ["budget=tiny", "threads=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "synthetic"
    generate(root, Sizes(train_per_class=16, test_per_class=5, unlabeled=160, ood_per_class=3))
    return root


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error::UserWarning", "-m", "ssl_pkg", *SMALL, *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=240, check=False)


def pretrain(method: str, data: Path, folder: Path, *more: str) -> list[str]:
    return ["stage=pretrain", f"method={method}", f"data.root={data}", f"run_dir={folder}", *more]


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_a_model_goes_through_every_stage(tmp_path: Path, data: Path) -> None:
    done = run(*pretrain("byol", data, tmp_path / "pretrain"))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "pretrain/metrics.jsonl").read_text().splitlines()]
    assert all("z_std" in line for line in lines if "loss" in line)
    assert [line["step"] for line in lines] == [2, 4, 5, 6, 8]  # of five steps an epoch
    again = run(*pretrain("byol", data, tmp_path / "pretrain"))
    assert again.returncode == 0
    assert "is complete" in again.stderr

    where = [f"data.root={data}"]
    for stage in ("probe", "finetune"):
        done = run(f"stage={stage}", f"source={tmp_path / 'pretrain'}", f"run_dir={tmp_path / stage}", *where)
        assert done.returncode == 0, done.stderr
        assert result(tmp_path / stage)["model"] == f"byol-{stage}"
        with np.load(tmp_path / stage / "predictions.npz") as predictions:
            accuracy = (predictions["logits"].argmax(axis=1) == predictions["labels"]).mean()
        rows = {(row["evaluation"], row["metric"]): row["value"] for row in result(tmp_path / stage)["rows"]}
        assert rows["test", "accuracy"] == pytest.approx(accuracy)
    for stage in ("ood", "embed", "width"):
        done = run(f"stage={stage}", f"source={tmp_path / 'finetune'}", f"run_dir={tmp_path / stage}", *where)
        assert done.returncode == 0, done.stderr
        assert result(tmp_path / stage)["model"] == "byol-finetune"
    with np.load(tmp_path / "embed/tsne.npz") as maps:
        assert maps["frames"].shape[0] == len(maps["frame_steps"]) == 2
    for name in ("config.yaml", "provenance.json", "metrics.jsonl", "status", "result.json", "tensorboard"):
        assert (tmp_path / "pretrain" / name).exists()
    assert json.loads((tmp_path / "pretrain/provenance.json").read_text())["data"]["name"] == "synthetic"


def test_folders_may_have_any_name_and_a_stage_has_its_sources_seed(tmp_path: Path, data: Path) -> None:
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
    assert "give the data.root that it was trained on" in done.stderr

    tune = ["stage=finetune", f"source={odd / '20250101'}", f"run_dir={odd / 'tune'}", f"data.root={odd / 'data'}"]
    done = run(*tune, "finetune.batch_size=131")
    assert "finetune.batch_size=131 is larger than the split train without its 30 held-out images, which has 130" in (
        done.stderr
    )


def test_probe_leaves_the_encoder_as_it_was(tmp_path: Path, data: Path) -> None:
    run(*pretrain("moco", data, tmp_path / "pretrain"))
    run("stage=probe", f"source={tmp_path / 'pretrain'}", f"run_dir={tmp_path / 'probe'}", f"data.root={data}")
    before = load_file(tmp_path / "pretrain/encoder.safetensors")
    after = load_file(tmp_path / "probe/model.safetensors")
    assert set(after) - set(before) == {"fc.weight", "fc.bias"}
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_run_interrupted_anywhere_ends_as_the_uninterrupted_one(tmp_path: Path, data: Path) -> None:
    method = "moco"  # it keeps the most state; tests/faults interrupts them all
    assert run(*pretrain(method, data, tmp_path / "straight")).returncode == 0
    line, folder = command(*pretrain(method, data, tmp_path / "broken")), tmp_path / "broken"
    interruptions = 0
    for attempt, number in enumerate((signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL)):
        process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        seen = 2 * attempt + 1
        while process.poll() is None and lines_of(folder) < seen:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break  # it was faster than the signal
        assert process.returncode == (75 if number != signal.SIGKILL else -9), errors
        interruptions += 1
    assert interruptions
    assert subprocess.run(line, capture_output=True, timeout=240, check=False).returncode == 0
    for key in ("weights_sha256", "metrics_sha256", "rows"):
        assert result(folder)[key] == result(tmp_path / "straight")[key]
    assert (folder / "encoder.safetensors").read_bytes() == (tmp_path / "straight/encoder.safetensors").read_bytes()


def lines_of(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_text().count("\n")
    except OSError:
        return 0


def test_an_interrupted_fine_tuning_ends_as_the_uninterrupted_one(tmp_path: Path, data: Path) -> None:
    run(*pretrain("simclr", data, tmp_path / "pretrain"))
    options = ["stage=finetune", f"source={tmp_path / 'pretrain'}", f"data.root={data}"]
    options += ["finetune.base_lrs=[0.001,0.0003]", "finetune.batch_size=16"]
    assert run(*options, f"run_dir={tmp_path / 'straight'}").returncode == 0
    folder = tmp_path / "broken"
    for seen in (2, 6, 11):  # in the first trial, in the second, in the final training
        process = subprocess.Popen(command(*options, f"run_dir={folder}"), stderr=subprocess.DEVNULL)
        while process.poll() is None and lines_of(folder) < seen:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) in (75, 0)
    assert run(*options, f"run_dir={folder}").returncode == 0
    for key in ("weights_sha256", "metrics_sha256", "rows", "tried"):
        assert result(folder)[key] == result(tmp_path / "straight")[key]
    with np.load(folder / "embeddings.npz") as broken, np.load(tmp_path / "straight/embeddings.npz") as straight:
        assert all(np.array_equal(broken[name], straight[name]) for name in straight)


def test_a_fine_tuning_interrupted_after_its_last_step_can_be_finished(tmp_path: Path, data: Path) -> None:
    run(*pretrain("simclr", data, tmp_path / "pretrain"))
    options = ["stage=finetune", f"source={tmp_path / 'pretrain'}", f"data.root={data}", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(command(*options), stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "run/embeddings.npz").exists():
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert (tmp_path / "run/snapshots").exists(), "the kill came too late"
    (tmp_path / "run/result.json").unlink(missing_ok=True)
    (tmp_path / "run/.model.safetensors.cut.tmp").write_bytes(b"half")
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run/snapshots").exists()
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_complete_fine_tuning_that_has_lost_its_result_gets_it_again(tmp_path: Path, data: Path) -> None:
    run(*pretrain("simclr", data, tmp_path / "pretrain"))
    options = ["stage=finetune", f"source={tmp_path / 'pretrain'}", f"data.root={data}", f"run_dir={tmp_path / 'run'}"]
    assert run(*options).returncode == 0
    before, embeddings = result(tmp_path / "run"), (tmp_path / "run/embeddings.npz").read_bytes()
    (tmp_path / "run/result.json").write_text("damaged")
    done = run(*options)
    assert done.returncode == 0, done.stderr
    after = result(tmp_path / "run")
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    assert (tmp_path / "run/embeddings.npz").read_bytes() == embeddings


@pytest.mark.parametrize("stopped", [False, True])
def test_a_reader_who_leaves_ends_neither_the_run_nor_its_status(tmp_path: Path, data: Path, stopped: bool) -> None:
    """`… 2>&1 | tee log`, and tee is the first that Ctrl-C ends."""
    line = command(*pretrain("simclr", data, tmp_path / "run"))
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    process.stdout.close()
    if stopped:
        while process.poll() is None and lines_of(tmp_path / "run") < 1:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == (75 if stopped else 0)


def test_other_inputs_in_a_started_run_are_refused(tmp_path: Path, data: Path) -> None:
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


def test_a_complete_run_answers_only_to_its_own_configuration(tmp_path: Path, data: Path) -> None:
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


def test_a_second_process_on_a_run_directory_is_refused(tmp_path: Path, data: Path) -> None:
    line = command(*pretrain("simclr", data, tmp_path / "run", "budget.max_steps=null", "method.epochs=1000"))
    first = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    while first.poll() is None and not (tmp_path / "run/lock").exists():
        time.sleep(0.01)
    second = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=120) == 75
    assert second.returncode == 1
    assert "is in use by process" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def cut(root: Path) -> None:
    with (root / "stl10_binary/train_X.bin").open("r+b") as file:
        file.truncate(100_000)


def wrong_labels(root: Path) -> None:
    np.full(160, 77, np.uint8).tofile(root / "stl10_binary/train_y.bin")


def few_labels(root: Path) -> None:
    np.ones(3, np.uint8).tofile(root / "stl10_binary/train_y.bin")


def nothing(root: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "arguments", "sentence"),
    [
        (nothing, ["data.root=/nowhere"], "data.root=/nowhere is not a folder"),
        (cut, [], "is truncated"),
        (wrong_labels, [], "labels outside 1..10"),
        (few_labels, [], "3 labels for 160 images"),
        (nothing, ["run_dir=/proc/run"], "can't write run_dir=/proc/run"),
        (nothing, ["method=dino"], "there is no method dino"),
        (
            nothing,
            ["budget.ssl_batch_size=161"],
            "method.batch_size=161 is larger than the split unlabeled, which has 160",
        ),
        (nothing, ["seed=abc"], "seed='abc' is not possible"),
        (nothing, ["method.model.temperature=-1"], "temperature=-1 is not possible"),
        (nothing, ["method.model.temprature=1", "sed=1"], "temprature"),
        (nothing, ["+method.model.extra=1"], "extra"),
        (nothing, ["device=cuda"], "sees no GPU here"),
        (nothing, ["seed=4294967296"], "seed=4294967296 is not possible"),
        (nothing, ["method.batch_size=1"], "batch_size=1 is not possible"),
        (nothing, ["method.views=[]"], "method.views has 0 entries, and simclr takes 2"),
        (nothing, ["method.warmup_epochs=inf"], "warmup_epochs=inf is not possible"),
        (nothing, ["method.model._target_=collections.OrderedDict"], "OrderedDict is no method"),
        (nothing, ["method=supervised", "method.split=unlabeled"], "has no labels"),
    ],
)
def test_wrong_input_is_one_sentence_status_2_and_nothing_left(
    tmp_path: Path, data: Path, damage: object, arguments: list[str], sentence: str
) -> None:
    import shutil

    import torch

    if arguments == ["device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    shutil.copytree(data, tmp_path / "data")
    damage(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    done = run(*pretrain("simclr", tmp_path / "data", tmp_path / "run"), *arguments)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_stages_that_need_a_finished_run_say_so(tmp_path: Path, data: Path) -> None:
    for stage, source, sentence in (
        ("probe", tmp_path / "none", "there is no run directory source="),
        ("ood", "random", "evaluates a final model"),
    ):
        done = run(f"stage={stage}", f"source={source}", f"data.root={data}", f"run_dir={tmp_path / 'run'}")
        assert done.returncode == 2, done.stderr
        assert sentence in done.stderr
        assert not (tmp_path / "run").exists()


def test_another_configuration_in_a_started_run_is_refused_with_the_difference(tmp_path: Path, data: Path) -> None:
    assert run(*pretrain("simclr", data, tmp_path / "run", "budget.max_steps=2")).returncode == 0
    (tmp_path / "run/result.json").unlink()
    done = run(*pretrain("simclr", data, tmp_path / "run", "budget.max_steps=2", "seed=1"))
    assert done.returncode == 2
    assert "seed: 0 -> 1" in done.stderr


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path, data: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    done = run(*pretrain("simclr", data, tmp_path))
    assert done.returncode == 2
    assert "is not a run" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_help_gets_one_started() -> None:
    done = subprocess.run([sys.executable, "-m", "ssl_pkg", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "stage=pretrain method=simclr" in done.stdout
