"""What is copied from a machine that is taken away at any moment."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.lease import Archive, Pieces, _run, main
from jobs.plan.graph import Job, plan
from jobs.plan.record import record_plan
from jobs.study_lock import read_lock_holder
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.run.weights import load_facts, load_weights, save_weights


def planned(folder: Path) -> list[Job]:
    study = StudyConfig(name="small", methods=("supervised",), seeds=(0,), cpus=1)
    jobs = plan(study, runs=folder, reports=folder / "reports", data_root="synthetic")
    (folder / "small").mkdir()
    record_plan(folder / "small", jobs)
    return jobs


def complete(folder: Path, size: int = 3000) -> None:
    """A complete run directory with files of some sizes."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "step-1.pt").write_bytes(b"large")
    for name in ("embeddings.npz", "lock", "status"):
        (folder / name).write_text("left out")
    for name in ("config.yaml", "metrics.jsonl", "predictions.npz", "zuletzt.npz"):
        (folder / name).write_bytes(f"{folder.name}/{name}|".encode() * (size // 20))
    (folder / "result.json").write_text('{"seconds": 1}')


def restored(out: Path, target: Path, cut: int | None = None) -> dict[str, bytes]:
    """The whole files that `cat results.tar.* | tar -x` gives, from the first `cut` bytes."""
    content = b"".join(piece.read_bytes() for piece in sorted(out.glob("results.tar.*")))[:cut]
    target.mkdir()
    subprocess.run(["tar", "--extract", "--directory", target], input=content, capture_output=True, check=False)
    return {str(file.relative_to(target)): file.read_bytes() for file in target.rglob("*") if file.is_file()}


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_have_the_bytes_of_a_single_file(tmp_path: Path, size: int) -> None:
    (tmp_path / "file.0007").write_bytes(b"of an earlier archive")
    pieces, whole = Pieces(tmp_path / "file", size), io.BytesIO()
    assert [piece.name for piece in tmp_path.iterdir()] == ["file.0007"]  # until there is something newer
    for count in (0, 1, 6, 7, 8, 50):
        assert pieces.write(bytes(range(count))) == whole.write(bytes(range(count)))
        assert pieces.tell() == whole.tell()
    found = [piece.read_bytes() for piece in sorted(tmp_path.iterdir())]
    assert b"".join(found) == whole.getvalue()
    assert {len(piece) for piece in found[:-1]} <= {size} and len(found[-1]) <= size


def test_wherever_the_archive_ends_a_restored_result_has_all_files_of_its_run(tmp_path: Path) -> None:
    jobs = planned(tmp_path)
    archive = Archive(tmp_path / "small", tmp_path, 4096, [])
    archive.add_complete()
    names = ["finetune-random-s0", "probe-random-s0"]
    ends = []
    for name in names:
        complete(tmp_path / "small" / name)
        archive.add_complete()  # nothing is closed after it: the machine may be taken away
        ends.append(sum(piece.stat().st_size for piece in tmp_path.glob("results.tar.*")))
    expected = restored(tmp_path, tmp_path / "whole")
    files = {"config.yaml", "metrics.jsonl", "predictions.npz", "zuletzt.npz", "result.json"}
    assert set(expected) == {"small/plan.json", *(f"small/{name}/{file}" for name in names for file in files)}
    assert all(content == (tmp_path / name).read_bytes() for name, content in expected.items())
    assert len(jobs) > 4
    for cut in (*range(0, ends[-1], 6007), *ends, *(end - 512 for end in ends)):
        found = restored(tmp_path, tmp_path / f"cut-{cut}", cut)
        for name, end in zip(names, ends, strict=True):
            results = [file for file in found if file == f"small/{name}/result.json" and found[file] == expected[file]]
            assert bool(results) == (cut >= end)
            if results:
                assert all(found.get(f"small/{name}/{file}") == expected[f"small/{name}/{file}"] for file in files)


def test_weights_are_copied_on_request_and_rounded(tmp_path: Path) -> None:
    planned(tmp_path)
    network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
    for name in ("finetune-random-s0", "probe-random-s0"):
        complete(tmp_path / "small" / name)
        save_weights(tmp_path / "small" / name / "model.safetensors", network, {"method": "random"})
    archive = Archive(tmp_path / "small", tmp_path, 10**6, ["probe-*/model.safetensors"])
    archive.close()
    found = restored(tmp_path, tmp_path / "whole")
    assert [name for name in found if name.endswith(".safetensors")] == ["small/probe-random-s0/model.safetensors"]
    file = tmp_path / "whole" / "small" / "probe-random-s0" / "model.safetensors"
    state = load_weights(file)  # checks the digest
    assert load_facts(file)["method"] == "random"
    copy = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.BatchNorm1d(4))
    copy.load_state_dict(state)
    for ours, weight in zip(copy.state_dict().values(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, weight, rtol=2**-11, atol=1e-7)
    assert torch.equal(copy[0].bias, network[0].bias)
    assert state["0.weight"].dtype == torch.float16 and state["1.running_var"].dtype == torch.float32


def test_the_end_of_the_archive_has_logs_and_what_incomplete_runs_have(tmp_path: Path) -> None:
    planned(tmp_path)
    complete(tmp_path / "small" / "probe-random-s0")
    (tmp_path / "small" / "probe-random-s0" / "result.json").unlink()
    (tmp_path / "small" / "logs").mkdir()
    (tmp_path / "small" / "logs" / "probe-random-s0.log").write_text("a line")
    archive = Archive(tmp_path / "small", tmp_path, 10**6, [])
    archive.close()
    found = restored(tmp_path, tmp_path / "whole")
    assert {"small/logs/probe-random-s0.log", "small/probe-random-s0/metrics.jsonl"} <= set(found)
    assert "small/probe-random-s0/result.json" not in found


@pytest.mark.slow
def test_a_study_that_cannot_start_has_its_exit_status(tmp_path: Path) -> None:
    words = ["290", str(tmp_path / "out"), "photos", "--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "none")]
    assert main(words) == 2
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_sigterm_stops_the_study_and_waits_for_its_end(tmp_path: Path) -> None:
    study = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75)); "
        "os.kill(os.getppid(), signal.SIGTERM); time.sleep(300); sys.exit(1)"
    )
    assert _run([sys.executable, "-c", study], 1000, Archive(tmp_path / "small", tmp_path, 10**6, [])) == 75


@pytest.mark.slow
def test_a_study_whose_results_cannot_be_copied_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path)
    (tmp_path / "small").rename(tmp_path / "demo")
    (tmp_path / "out" / "results.tar.0000").mkdir(parents=True)
    assert main(["290", str(tmp_path / "out"), "demo", "--runs", str(tmp_path)]) == 1
    assert "can't be copied" in capsys.readouterr().err
    holder = read_lock_holder(tmp_path / "demo")
    assert holder is None or not holder.alive
