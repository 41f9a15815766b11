"""`docker run IMAGE …`: help, errors, a run's files, interruptions, the report."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import USER, Container, Image, until
from engine import PROJECT

from ssl_pkg.errors import BAD_INPUT, COMPLETE, INTERRUPTED
from ssl_pkg.run.directory import RunDirectory

LONG = os.environ.get("CONTAINER_TESTS") == "long"
pytestmark = pytest.mark.timeout(1800)  # the first test also builds the image
LINE = (
    "stage=pretrain", "budget=tiny", "threads=1", "log_every=1", "budget.ssl_batch_size=16", "budget.max_steps=30",
    "budget.ssl_epochs=100", "checkpoint.epochs=1",
)  # fmt: skip


def test_without_arguments_it_prints_help(image: Image) -> None:
    done = image.run()
    assert done.returncode == COMPLETE and not done.stderr
    for line in ("IMAGE demo", "stage=pretrain method=simclr", "-v DATA:/data:ro", "--gpus all"):
        assert line in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


EMPTY = "EMPTY"  # an empty folder that any user can write
ROOTS = "ROOTS"  # a folder that only root can write


@pytest.mark.parametrize(
    ("words", "mounts", "sentence"),
    [
        ("train", {}, "the image has no command 'train'"),
        ("study", {}, "give the study's name first"),
        ("status demo", {}, r"nothing is mounted at /out: add -v OUT:/out"),
        ("demo", {}, r"/out would be lost .* add -v OUT:/out"),
        ("demo", {"/out": ROOTS}, r"user 4321 can't write to /out.*--user"),
        ("study photos", {"/out": EMPTY}, r"study photos needs images.*add -v DATA:/data:ro"),
        ("study photos", {"/out": EMPTY, "/data:ro": EMPTY}, "/data is empty"),
        ("study nothing", {"/out": EMPTY}, "there is no study 'nothing'"),
        ("data", {}, r"add -v DATA:/data"),
        ("stage=pretrain method=simclr", {}, "run_dir is missing"),
        ("stage=pretrain method=simclr run_dir=a", {}, r"/runs/a would be lost .* add -v RUNS:/runs"),
        ("stage=pretrain method=simclr run_dir=/b/a", {}, r"/b/a would be lost .* add -v RUNS:/b"),
        ("stage=pretrain method=simclr run_dir=a", {"/runs:ro": EMPTY}, r"/runs is mounted read-only"),
        ("stage=pretrain method=simclr run_dir=../a", {"/runs": EMPTY}, r"/a would be lost .* add -v RUNS:/a$"),
        ("stage=pretrain method=simclr run_dir=a study=stl10", {"/runs": EMPTY}, r"add -v DATA:/data:ro"),
        ("stage=pretrain method=simclr run_dir=a data.root=/d", {"/runs": EMPTY}, "data.root=/d does not exist in the"),
        ("stage=probe source=a run_dir=b", {"/runs": EMPTY}, "source=/runs/a does not exist in the container"),
        ("stage=pretrain method=none run_dir=a", {"/runs": EMPTY}, "there is no method none"),
    ],
)
def test_an_error_is_one_sentence_that_names_the_mount(
    image: Image, folder: Path, words: str, mounts: dict[str, str], sentence: str
) -> None:
    folders = {EMPTY: folder, ROOTS: folder.parent / "roots"}
    folders[ROOTS].mkdir(mode=0o755)
    done = image.run(*words.split(), mounts={path: folders[kind] for path, kind in mounts.items()})
    assert done.returncode == BAD_INPUT
    assert re.search(sentence, done.stderr), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(folder.iterdir())


def test_labels_and_tags_have_the_version_and_the_commit(image: Image) -> None:
    shown = json.loads(image.engine.docker("image", "inspect", image.name).stdout)[0]
    labels = {key.rpartition(".")[2]: value for key, value in shown["Config"]["Labels"].items()}
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert labels["version"] == version
    assert f"{image.name}:{version}-{labels['revision'].replace('+', '-')}" in shown["RepoTags"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert commit.stdout.startswith(labels["revision"].partition("+")[0])
    assert shown["Config"]["User"] not in ("", "0", "root")


def test_its_packages_are_those_of_the_lock_file(image: Image) -> None:
    listed = image.run("-m", "pip", "list", "--format=freeze", options=("--entrypoint", "python"))
    there = dict(line.lower().replace("_", "-").split("==") for line in listed.stdout.splitlines())
    locked = dict(re.findall(r"^(\S+)==(\S+)$", (PROJECT / "requirements.lock").read_text(), re.MULTILINE))
    assert {"torch", "submitit", "typst"} <= there.keys()
    others = {name for name, version in there.items() if locked.get(name) != version}
    assert others == {"ssl-study", "pip"}  # pip is the base image's


def test_a_run_finds_jemalloc(image: Image) -> None:
    begun = "from ssl_pkg.hardware.memory import restart_with_jemalloc; restart_with_jemalloc(())"
    shown = (
        "from pathlib import Path; print(*sorted({Path(line.split()[-1]).name for line in open('/proc/self/maps')}))"
    )
    done = image.run("-c", f"{begun}; {shown}", options=("--entrypoint", "python"))
    assert "libjemalloc.so.2" in done.stdout.split()


def test_the_number_of_cores_is_limited_by_docker(image: Image) -> None:
    shown = "from ssl_pkg.hardware.machine import cores; print(cores())"
    done = image.run("-c", shown, options=("--entrypoint", "python", "--cpus", "1.5"))
    assert done.stdout.strip() == "1"


def test_it_contains_only_the_programs(image: Image) -> None:
    listed = image.run("-A", "/opt/ssl-study", options=("--entrypoint", "ls"))
    assert set(listed.stdout.split()) == {
        "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "ssl_pkg", "jobs", "slurm", "analysis",
        "ssl_study_commands.py",
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(image: Image, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted stage in the image."""
    runs = tmp_path_factory.mktemp("whole")
    runs.chmod(0o777)
    done = image.run(*LINE, "method=moco", "run_dir=whole", mounts={"/runs": runs, "/data:ro": data})
    assert done.returncode == COMPLETE, done.stderr
    assert done.stderr.splitlines()[-1] == "whole is complete"
    return runs / "whole"


def test_a_stage_in_the_image_ends_with_the_bytes_of_one_on_this_machine(
    whole: Path, data: Path, tmp_path: Path
) -> None:
    line = [sys.executable, "-m", "ssl_pkg", *LINE, "method=moco", f"data.root={data}", f"run_dir={tmp_path / 'here'}"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}  # as in the container
    subprocess.run(line, check=True, capture_output=True, env=own)
    assert digests(whole) == digests(tmp_path / "here")


def test_its_files_belong_to_the_user(whole: Path) -> None:
    owners = {f"{path.stat().st_uid}:{path.stat().st_gid}" for path in (whole, *whole.rglob("*"))}
    assert owners == {USER}


def test_a_complete_run_is_not_changed(image: Image, data: Path, whole: Path) -> None:
    before = (whole / "result.json").stat()
    done = image.run(*LINE, "method=moco", "run_dir=whole", mounts={"/runs": whole.parent, "/data:ro": data})
    assert done.returncode == COMPLETE
    assert (whole / "result.json").stat() == before


@pytest.mark.parametrize("signal", ["TERM", "USR2", *(["INT"] if LONG else [])])
def test_interrupted_by_a_signal_and_resumed_in_another_container_it_ends_with_the_same_bytes(
    image: Image, data: Path, folder: Path, whole: Path, signal: str
) -> None:
    container = started(image, data, folder, step=3)
    container.signal(signal)
    container.signal(signal)  # a scheduler and a wrapper may both send it
    status, logs = container.ended()
    assert status == INTERRUPTED, logs
    assert "run the same command again to resume" in logs
    done = resumed(image, data, folder)
    assert done.returncode == COMPLETE, done.stderr
    assert "resumes from the checkpoint of step" in done.stderr  # a new start would end with the same bytes
    assert digests(folder / "broken") == digests(whole)


@pytest.mark.timeout(300)
def test_killed_and_resumed_in_another_container_it_ends_with_the_same_bytes(
    image: Image, data: Path, folder: Path, whole: Path
) -> None:
    """The second container waits for a minute, because it can't see whether the first one is running."""
    container = started(image, data, folder, step=12)
    until(lambda: list(folder.glob("broken/checkpoints/step-*.ckpt")), 30)  # checkpoints are written in the background
    container.signal("KILL")
    assert container.ended()[0] == 137
    assert not (folder / "broken" / "result.json").exists()
    done = resumed(image, data, folder)
    assert done.returncode == COMPLETE, done.stderr
    assert "resumes from the checkpoint of step" in done.stderr
    assert digests(folder / "broken") == digests(whole)


def test_a_signal_during_the_start_is_not_lost(image: Image, data: Path, folder: Path) -> None:
    container = image.start(*LINE, "method=moco", "run_dir=broken", mounts={"/runs": folder, "/data:ro": data})
    container.signal("TERM")
    status, logs = container.ended()
    assert status == INTERRUPTED, logs


def started(image: Image, data: Path, folder: Path, step: int) -> Container:
    """Starts a training and waits for `step`."""
    container = image.start(*LINE, "method=moco", "run_dir=broken", mounts={"/runs": folder, "/data:ro": data})
    run = RunDirectory(folder / "broken")
    until(lambda: any(line["step"] >= step for line in run.metrics()), 120, lambda: str(run.status()))
    return container


def resumed(image: Image, data: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    return image.run(*LINE, "method=moco", "run_dir=broken", mounts={"/runs": folder, "/data:ro": data})


def digests(folder: Path) -> tuple[str, str]:
    result = RunDirectory(folder).result()
    assert result
    return result["weights_sha256"], result["metrics_sha256"]


STUDY = ("budget=tiny", "study.methods=[supervised]", "threads=1")


@pytest.mark.timeout(400)
def test_a_study_that_was_stopped_resumes_and_writes_its_report(image: Image, data: Path, folder: Path) -> None:
    mounts = {"/out": folder, "/data:ro": data}
    container = image.start("study", "demo", *STUDY, mounts=mounts)
    until(lambda: list(folder.glob("runs/demo/*/status")), 200, lambda: str(list(folder.rglob("*"))))
    container.signal("TERM")
    status, logs = container.ended()
    assert status == INTERRUPTED, logs
    assert logs.splitlines()[-1].endswith(f"resumes the study: docker run … IMAGE study demo {shlex.join(STUDY)}")
    done = image.run("study", "demo", *STUDY, mounts=mounts)
    assert done.returncode == COMPLETE, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "report.pdf is in the folder that is mounted at /out."
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    shown = image.run("status", "demo", mounts={"/out:ro": folder})
    assert shown.returncode == COMPLETE and "finetune-random-s0" in shown.stdout
    assert not re.search(r"[\x1b\r]", logs + done.stdout + done.stderr), "the logs are plain lines"


@pytest.mark.skipif(not LONG, reason="two minutes: CONTAINER_TESTS=long")
@pytest.mark.timeout(600)
def test_it_compiles_its_kernels(image: Image, data: Path, folder: Path) -> None:
    done = image.run(
        *LINE, "budget.max_steps=4", "method=simclr", "compile=always", "run_dir=run",
        mounts={"/runs": folder, "/cache": folder, "/data:ro": data},
    )  # fmt: skip
    assert done.returncode == COMPLETE, done.stderr
    kernels = folder / "ssl-study" / "compiled"
    assert kernels.is_dir() and not list(kernels.rglob("*.so")), "kernels are removed when the run ends"
