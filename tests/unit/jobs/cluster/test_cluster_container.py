import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cluster.container import (
    BACKENDS,
    ENTRY_POINT,
    check_folders,
    client_command,
    container_name,
    mounted_folders,
)
from jobs.plan.graph import plan
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.errors import BAD_INPUT, FAULT, BadInput

STAGE = ("stage=probe", "source=/runs of mine/demo/pretrain", "data.root=/images", "run_dir=/runs of mine/demo/probe")
IN_JOB = {"SLURM_JOB_ID": "12", "SLURM_PROCID": "1", "SLURMD_NODENAME": "node3", "HOME": "/home/me", "RANK": "1"}
BINDS = {"/images": False, "/mine/demo": True}


def line(backend: str, **more: str) -> tuple[list[str], dict[str, str]]:
    return client_command(backend, "IMAGE", STAGE, binds=BINDS, environment=IN_JOB | more, options=("--extra",))


def test_the_folders_of_a_stage_are_bound_and_only_its_own_can_be_written() -> None:
    assert mounted_folders(STAGE) == {"/images": False, "/runs of mine/demo": True}
    assert mounted_folders(("stage=probe", "source=random", "data.root=synthetic", "run_dir=/a/b")) == {"/a": True}
    assert mounted_folders(("stage=probe", "source=/other/a", "run_dir=/a/b")) == {"/other": False, "/a": True}
    assert mounted_folders(("report", "/runs/demo", "--out", "/reports/demo")) == {
        "/runs/demo": False,
        "/reports/demo": True,
    }


@pytest.mark.parametrize("folder", ["/plain", "/with space", "/it's", "/ümlaut", "/a=b"])
def test_every_line_of_a_plan_is_understood_however_its_folders_are_quoted(folder: str) -> None:
    study = StudyConfig(name="demo", methods=("supervised", "simclr"), seeds=(0,), cpus=1)
    for job in plan(study, runs=Path(folder), reports=Path(folder) / "reports", data_root=f"{folder}/data"):
        words = job.overrides if job.stage != "report" else ("report", *job.overrides)
        assert f"{folder}/demo" in mounted_folders(words)
    assert mounted_folders((f"run_dir={folder}/a/b",)) == {f"{folder}/a": True}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_folder_with_a_character_that_a_client_interprets_is_refused(backend: str) -> None:
    pyxis_writes_a_table = ["/a b", "/$a"]
    for folder in ["/a:b", "/a,b", *pyxis_writes_a_table * (backend == "pyxis")]:
        with pytest.raises(BadInput, match=f"which {backend} does not allow"):
            check_folders(mounted_folders((f"run_dir={folder}/b",)), backend)
    check_folders(mounted_folders((f"run_dir={'/a' if backend == 'pyxis' else '/a b'}/b",)), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_stage_and_the_options_are_passed_on_as_they_are(backend: str) -> None:
    words, _ = line(backend)
    assert words[-len(STAGE) :] == list(STAGE)
    assert words.index("--extra") < words.index(STAGE[0])


@pytest.mark.parametrize("client", ["docker", "podman"])
def test_docker_and_podman_get_the_user_the_mounts_and_the_rank(client: str) -> None:
    words, environment = line(client)
    given = shlex.join(words)
    assert given.startswith(f"{client} run --rm --read-only --tmpfs /tmp:exec")
    assert f"--user={os.getuid()}:{os.getgid()}" in words
    assert "--volume /images:/images:ro" in given and "--volume /mine/demo:/mine/demo " in given
    assert {"--env=RANK", "--env=SLURM_JOB_ID", "--env=SLURM_PROCID"} <= set(words) and "--env=HOME" not in words
    assert environment["SLURM_JOB_ID"] == "12"
    assert words[-len(STAGE) - 1] == "IMAGE"


def test_gpus_are_those_of_the_job() -> None:
    assert '--gpus="device=2,3"' in line("docker", SLURM_JOB_GPUS="2,3")[0]
    assert {"--device=nvidia.com/gpu=2", "--device=nvidia.com/gpu=3"} <= set(line("podman", SLURM_JOB_GPUS="2,3")[0])
    assert "--nv" in line("apptainer", SLURM_JOB_GPUS="2")[0]
    assert not [word for backend in BACKENDS for word in line(backend)[0] if "gpu" in word or word == "--nv"]


def test_apptainer_gets_the_environment_with_its_prefix() -> None:
    words, environment = line("apptainer", CUDA_VISIBLE_DEVICES="1")
    assert shlex.join(words).startswith("apptainer exec --no-eval --cleanenv --no-home")
    given = shlex.join(words)
    assert "--bind /images:/images:ro --bind /mine/demo:/mine/demo --extra IMAGE env --block-signal=TERM" in given
    assert "python -P -m jobs.image stage=probe" in given
    assert environment["APPTAINERENV_SLURM_JOB_ID"] == "12"
    assert environment["APPTAINERENV_CUDA_VISIBLE_DEVICES"] == "1"
    assert "APPTAINERENV_HOME" not in environment


def test_pyxis_starts_a_step_on_the_same_node_with_the_same_rank() -> None:
    several = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "1"}
    several["SLURM_LAUNCH_NODE_IPADDR"] = "10.0.0.1"
    words, environment = line("pyxis", **several)
    assert words[:5] == ["srun", "--overlap", "--nodes=1", "--ntasks=1", "--nodelist=node3"]
    assert {"--container-image=IMAGE", "--container-mounts=/images:/images:ro,/mine/demo:/mine/demo"} <= set(words)
    assert (environment["RANK"], environment["WORLD_SIZE"], environment["MASTER_ADDR"]) == ("1", "4", "10.0.0.1")
    assert environment["MASTER_PORT"] == "20120"
    assert "WORLD_SIZE" not in line("pyxis")[1]
    assert "WORLD_SIZE" not in line("pyxis", **several, SLURM_PTY_PORT="1")[1]  # typed in an interactive step


def test_a_container_gets_the_variable_of_its_launcher() -> None:
    assert "--env=SSL_STUDY_STEP" in line("docker", SSL_STUDY_STEP="12.0")[0]
    assert line("apptainer", SSL_STUDY_STEP="12.0")[1]["APPTAINERENV_SSL_STUDY_STEP"] == "12.0"


def test_pyxis_passes_the_gpus_but_not_the_library_paths_of_the_host() -> None:
    words, environment = line("pyxis", SLURM_STEP_GPUS="0", PYTHONPATH="/site", LD_LIBRARY_PATH="/site/lib")
    inside = words[words.index("env") : words.index("python")]
    done = subprocess.run(
        [*inside, "env"], env=environment | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    names = {entry.partition("=")[0] for entry in done.stdout.splitlines()}
    assert not {"PYTHONPATH", "LD_LIBRARY_PATH"} & names
    assert {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "SLURM_JOB_ID"} <= names
    assert "NVIDIA_VISIBLE_DEVICES" not in line("pyxis")[1]


def test_variables_of_a_login_session_are_passed_only_on_its_own_host(tmp_path: Path) -> None:
    session = {"XDG_RUNTIME_DIR": str(tmp_path), "DBUS_SESSION_BUS_ADDRESS": "unix:path=/bus"}
    assert session.items() <= line("podman", **session)[1].items()
    elsewhere = line("podman", **session | {"XDG_RUNTIME_DIR": "/run/user/on-the-login-node"})[1]
    assert not session.keys() & elsewhere.keys()


def test_a_container_has_the_same_name_in_every_start_of_its_job() -> None:
    again = container_name(STAGE, IN_JOB | {"SLURM_RESTART_COUNT": "3"})
    assert container_name(STAGE, IN_JOB) == again
    others = [
        container_name(STAGE, IN_JOB | {"SLURM_JOB_ID": "13"}),
        container_name(STAGE, IN_JOB | {"SLURM_PROCID": "0"}),
        container_name((*STAGE, "run_dir=/other"), IN_JOB),  # another cluster's job 12, on the same engine
    ]
    assert len({again, *others}) == 4
    assert container_name((*STAGE, "data.root=/copied/to/this/node"), IN_JOB) == again
    assert container_name(STAGE, {}) is None


def test_it_becomes_the_client_whose_status_is_its_own(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text('#!/bin/sh\necho "$$ $*"\n[ "$1" = rm ] || exit 75\n')
    client.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "12"}
    process = subprocess.Popen(
        command("docker", f"run_dir={tmp_path}/study/run"), env=environment, stdout=subprocess.PIPE, text=True
    )
    printed, _ = process.communicate()
    assert process.returncode == 75
    assert printed.startswith(f"{process.pid} run --rm")
    assert f"--volume {tmp_path}/study:{tmp_path}/study " in printed
    assert (tmp_path / "study").is_dir(), "a folder that the engine creates would belong to root"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ("run_dir=/a:b/c", BAD_INPUT, "/a:b contains ':'"),
        ("run_dir=FOLDER/a", FAULT, "podman can't be started on this machine"),
    ],
)
def test_an_error_is_one_sentence(tmp_path: Path, words: str, status: int, sentence: str) -> None:
    line = command("podman", words.replace("FOLDER", str(tmp_path)))
    done = subprocess.run(line, env=os.environ | {"PATH": "/no"}, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert sentence in done.stderr and done.stderr.count("\n") == 1


def command(backend: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "jobs.cluster.container", f"--backend={backend}", "--image=IMAGE", "--", *words]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_the_srun_of_pyxis_gets_a_signal_that_it_forwards(tmp_path: Path, number: int) -> None:
    """At SIGTERM srun would kill the stage."""
    srun = tmp_path / "srun"
    srun.write_text(
        "#!/bin/bash\ntrap 'kill $!; exit 75' USR2\ntrap 'kill $!; exit 9' TERM\nsleep 30 & echo ready; wait\n"
    )
    srun.chmod(0o755)
    changed = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURMD_NODENAME": "n", "XDG_CACHE_HOME": str(tmp_path)}
    line = command("pyxis", "stage=probe", f"run_dir={tmp_path}/runs/a")
    client = subprocess.Popen(line, env=os.environ | changed, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    with client.stdout as out:
        assert out.readline() == "ready\n"
        client.send_signal(number)
        assert client.wait(20) == 75


def test_a_folder_that_cannot_be_created_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = command("docker", "stage=probe", f"run_dir={tmp_path}/file/a/b")
    done = subprocess.run(
        line, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == BAD_INPUT
    assert (
        done.stderr == f"jobs.cluster.container: {tmp_path}/file/a can't be mounted in the container: Not a directory\n"
    )


def test_the_image_starts_as_a_backend_does_that_ignores_its_entry_point() -> None:
    text = (Path(__file__).parents[4] / "Dockerfile").read_text(encoding="utf-8")
    (entry_point,) = [line for line in text.splitlines() if line.startswith("ENTRYPOINT ")]
    assert json.loads(entry_point.removeprefix("ENTRYPOINT ")) == list(ENTRY_POINT)
    assert {"--block-signal=TERM", "--block-signal=QUIT", "--block-signal=ALRM"} <= set(ENTRY_POINT)
