"""Interrupted and resumed runs end with the same bytes as uninterrupted ones."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from stage_runs import command, metric_lines, pretrain, result, run, run_alone, start, wait_for_lines


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "simclr"
    assert run(*pretrain("simclr", data, folder)).returncode == 0
    return folder


def test_an_interrupted_fine_tuning_ends_as_an_uninterrupted_one(tmp_path: Path, data: Path, pretrained: Path) -> None:
    options = ["stage=finetune", f"source={pretrained}", f"data.root={data}"]
    options += ["finetune.base_lrs=[0.001,0.0003]", "finetune.batch_size=16"]
    run_alone(*options, f"run_dir={tmp_path / 'whole'}")
    folder = tmp_path / "broken"
    statuses = []
    for seen in (2, 6, 11):  # in the first trial, the second trial and the final training
        process = start(*options, f"run_dir={folder}")
        wait_for_lines(folder, seen, process)
        process.send(signal.SIGTERM)
        statuses.append(process.status())
    assert statuses[0] == 75 and set(statuses) <= {75, 0}
    assert run(*options, f"run_dir={folder}").returncode == 0
    for key in ("weights_sha256", "metrics_sha256", "rows", "tried"):
        assert result(folder)[key] == result(tmp_path / "whole")[key]
    with np.load(folder / "embeddings.npz") as broken, np.load(tmp_path / "whole/embeddings.npz") as whole:
        assert all(np.array_equal(broken[name], whole[name]) for name in whole)


def test_an_interrupted_evaluation_on_corrupted_images_ends_as_an_uninterrupted_one(tmp_path: Path, data: Path) -> None:
    source = tmp_path / "probe"
    assert run("stage=probe", "source=random", f"data.root={data}", f"run_dir={source}").returncode == 0
    options = ["stage=corruptions", f"source={source}", f"data.root={data}"]
    run_alone(*options, f"run_dir={tmp_path / 'whole'}")
    folder = tmp_path / "broken"
    process = start(*options, f"run_dir={folder}")
    while not list((folder / "checkpoints").glob("*.ckpt")) and not process.ends_within(0.005):
        pass
    process.send(signal.SIGTERM)
    assert process.status() == 75
    resumed = run(*options, f"run_dir={folder}")
    assert "resumes from the checkpoint of step" in resumed.stderr
    assert {**result(folder), "seconds": 0} == {**result(tmp_path / "whole"), "seconds": 0}
    assert (folder / "corruptions.npz").read_bytes() == (tmp_path / "whole/corruptions.npz").read_bytes()


def test_an_interrupted_run_with_few_labels_ends_as_an_uninterrupted_one(tmp_path: Path, data: Path) -> None:
    options = ["stage=few_labels", "source=random", f"data.root={data}", "few_labels.labels_per_class=[2,4]"]
    options += ["finetune.batch_size=8", "log_every=1"]
    run_alone(*options, f"run_dir={tmp_path / 'whole'}")
    folder = tmp_path / "broken"
    statuses = []
    for seen in (1, 5, 9):  # in a trial, in the final training on the first subset, and on the second subset
        process = start(*options, f"run_dir={folder}")
        wait_for_lines(folder, seen, process)
        process.send(signal.SIGTERM)
        statuses.append(process.status())
    assert statuses[0] == 75 and set(statuses) <= {75, 0}
    assert run(*options, f"run_dir={folder}").returncode == 0
    whole = result(tmp_path / "whole")
    assert {row["labels_per_class"] for row in whole["rows"]} == {2, 4}
    for key in ("metrics_sha256", "rows"):
        assert result(folder)[key] == whole[key]
    with np.load(folder / "few_labels.npz") as broken, np.load(tmp_path / "whole/few_labels.npz") as arrays:
        assert all(np.array_equal(broken[name], arrays[name]) for name in arrays)


def test_maps_continue_after_the_joint_map_and_end_with_the_same_bytes(tmp_path: Path, data: Path) -> None:
    source, folder = tmp_path / "finetune", tmp_path / "run"
    assert run("stage=finetune", "source=random", f"data.root={data}", f"run_dir={source}").returncode == 0
    options = ["stage=embed", f"source={source}", f"data.root={data}", f"run_dir={folder}"]
    assert run(*options, "pretrain.knn_neighbours=3").returncode == 0
    whole, maps = result(folder), (folder / "tsne.npz").read_bytes()
    written = (folder / "embeddings.npz").stat().st_mtime_ns
    (folder / "result.json").unlink()  # as if the run had been killed during the frames
    (folder / "tsne.npz").unlink()
    resumed = run(*options, "pretrain.knn_neighbours=3")
    assert "resumes from the checkpoint of step 1" in resumed.stderr
    assert (folder / "embeddings.npz").stat().st_mtime_ns == written
    assert {**result(folder), "seconds": 0} == {**whole, "seconds": 0}
    assert (folder / "tsne.npz").read_bytes() == maps


def test_a_fine_tuning_killed_after_its_last_step_can_be_completed(
    tmp_path: Path, data: Path, pretrained: Path
) -> None:
    options = ["stage=finetune", f"source={pretrained}", f"data.root={data}", f"run_dir={tmp_path / 'run'}"]
    process = start(*options)
    while not (tmp_path / "run/embeddings.npz").exists() and not process.ends_within(0.001):
        pass
    process.send(signal.SIGKILL)
    process.status()
    assert (tmp_path / "run/snapshots").exists(), "the kill came too late"
    (tmp_path / "run/result.json").unlink(missing_ok=True)
    (tmp_path / "run/.model.safetensors.cut.tmp").write_bytes(b"half")
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run/snapshots").exists()
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_a_damaged_result_of_a_complete_fine_tuning_is_restored(tmp_path: Path, data: Path, pretrained: Path) -> None:
    options = ["stage=finetune", f"source={pretrained}", f"data.root={data}", f"run_dir={tmp_path / 'run'}"]
    assert run(*options).returncode == 0
    before, embeddings = result(tmp_path / "run"), (tmp_path / "run/embeddings.npz").read_bytes()
    (tmp_path / "run/result.json").write_text("damaged")
    done = run(*options)
    assert done.returncode == 0, done.stderr
    after = result(tmp_path / "run")
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    assert (tmp_path / "run/embeddings.npz").read_bytes() == embeddings


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_closed_output_pipe_changes_neither_the_run_nor_its_exit_status(
    tmp_path: Path, data: Path, interrupted: bool
) -> None:
    """As in `… 2>&1 | tee log`, where Ctrl-C ends tee first."""
    line = command(*pretrain("simclr", data, tmp_path / "run"))
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    process.stdout.close()
    if interrupted:
        while process.poll() is None and metric_lines(tmp_path / "run") < 1:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == (75 if interrupted else 0)
