"""Runs a stage's command line in a container.

    python -m jobs.cluster.container --backend docker --image IMAGE -- stage=…

The folders that the line names, and the user's cache, appear in the container where they are outside. This process
becomes the container's client, so that signals reach the stage and its exit status comes back.
"""

import argparse
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ssl_pkg.cache import user_cache
from ssl_pkg.catalogue import RANDOM
from ssl_pkg.config import SYNTHETIC
from ssl_pkg.distributed.launch import is_task, step_mark
from ssl_pkg.errors import BAD_INPUT, FAULT, BadInput
from ssl_pkg.overrides import split
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.streams import use_utf8

# the image's entry point, for clients that don't know it
ENTRY_POINT: Final = (
    "env", "--block-signal=TERM", "--block-signal=INT", "--block-signal=USR1", "--block-signal=USR2",
    "--block-signal=HUP", "python", "-P", "-m", "jobs.image",
)  # fmt: skip
BACKENDS: Final = ("docker", "podman", "apptainer", "pyxis")
# what an image's own Python must not find, where the host's environment comes along
UNSET_HOST_VARIABLES: Final = (
    "env",
    *(f"--unset={name}" for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD")),
)
ENROOT_GPU_VARIABLES: Final = {
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
}  # asks enroot
SESSION_VARIABLES: Final = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")  # where rootless podman keeps its own
CLIENT_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# whose process it is among others, and what a user tells PyTorch's libraries
PASSED_VARIABLES: Final = re.compile(
    r"SLURM_\w+|(OMP|MKL|NCCL|GLOO|TORCH|TORCHELASTIC|MASTER|LOCAL|PYTORCH)_\w+|RANK|SSL_STUDY_STEP|WORLD_SIZE|XDG_CACHE_HOME"
)


def mounted_folders(words: Sequence[str]) -> dict[str, bool]:
    """The folders that a line names -> whether it writes there. Raises BadInput."""
    if words[0] == "report":
        return {words[1]: False, words[words.index("--out") + 1]: True}
    found: dict[str, bool] = {}
    given, _ = split(words)
    if given.get("data.root", SYNTHETIC) != SYNTHETIC:
        found[given["data.root"]] = False
    if given.get("source", RANDOM) != RANDOM:
        found[str(Path(given["source"]).parent)] = False
    found[str(Path(given["run_dir"]).parent)] = True
    return found


def check_folders(binds: Iterable[str], backend: str) -> None:
    """Raises BadInput for a folder that the clients would take for something else."""
    for folder in binds:
        if wrong := re.search(r"[:,\n]" if backend != "pyxis" else r"[:,$\s]", folder):
            raise BadInput(f"{folder} holds {wrong[0]!r}, which a container's folders may not: give another one")


def client_command(
    backend: str,
    image: str,
    words: Sequence[str],
    *,
    binds: Mapping[str, bool],
    environment: Mapping[str, str],
    options: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """The client's command line, and its environment."""
    passed = {name: value for name, value in environment.items() if PASSED_VARIABLES.fullmatch(name)}
    mounts = [f"{folder}:{folder}{'' if writes else ':ro'}" for folder, writes in binds.items()]
    gpus = environment.get("SLURM_STEP_GPUS") or environment.get("SLURM_JOB_GPUS")
    if backend == "apptainer":
        # --no-eval: Apptainer gives words and environment to a shell, which would read $ and quotes in them
        line = [
            "apptainer",
            "exec",
            "--no-eval",
            "--cleanenv",
            "--no-home",
            "--pwd",
            "/runs",
            *(["--nv"] if gpus else []),
        ]
        line += [word for mount in mounts for word in ("--bind", mount)] + [*options, image, *ENTRY_POINT, *words]
        shown = passed | {k: v for k, v in environment.items() if k == "CUDA_VISIBLE_DEVICES"}
        return line, {**environment, **{f"APPTAINERENV_{name}": value for name, value in shown.items()}}
    if backend == "pyxis":
        line = ["srun", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={environment['SLURMD_NODENAME']}"]
        line += [f"--container-image={image}", f"--container-mounts={','.join(mounts)}", "--no-container-mount-home"]
        # of the variables that the image sets, the host's cache counts
        line += ["--container-workdir=/runs", "--container-env=XDG_CACHE_HOME", "--no-container-entrypoint"]
        # the outer step's mask is that of another rank
        line += ["--cpu-bind=none", *options, *UNSET_HOST_VARIABLES, *ENTRY_POINT, *words]
        return line, {**environment, **_torchrun_variables(environment), **(ENROOT_GPU_VARIABLES if gpus else {})}
    line = [backend, "run", "--rm", "--read-only", "--tmpfs", "/tmp:exec", "--network=host", "--ipc=host"]
    line += [f"--user={os.getuid()}:{os.getgid()}"]
    if name := container_name(words, environment):
        line.append(f"--name={name}")
    if backend == "docker":
        line += [f"--group-add={group}" for group in os.getgroups()] + ([f'--gpus="device={gpus}"'] if gpus else [])
    else:
        line += ["--replace"] * (name is not None) + ["--userns=keep-id"] * (os.getuid() != 0)
        line += [f"--device=nvidia.com/gpu={gpu}" for gpu in (gpus or "").split(",") if gpu]
    line += [word for mount in mounts for word in ("--volume", mount)]
    line += [f"--env={name}" for name in sorted(passed)] + [*options, image, *words]
    return line, {
        name: value
        for name, value in environment.items()
        if name not in SESSION_VARIABLES or _session_is_local(environment)
    }


def container_name(words: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Of one process of a SLURM job, in all its starts the same; no name outside SLURM."""
    job = environment.get("SLURM_JOB_ID")
    run = hashlib.sha256(os.fsencode(split(words)[0].get("run_dir") or shlex.join(words))).hexdigest()[:12]
    return f"ssl-study-{job}-{environment.get('SLURM_PROCID', '0')}-{run}" if job else None


def _session_is_local(environment: Mapping[str, str]) -> bool:
    """Whether the login session that the environment tells of is on this host: sbatch brings the login node's."""
    return os.access(environment.get("XDG_RUNTIME_DIR", ""), os.W_OK)


def _torchrun_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Who the process is among others, in torchrun's words: in the step that holds the container, it is alone."""
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) == 1 or not is_task(environment):
        return {}
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": environment.get("SLURM_NTASKS_PER_NODE", "1"),
        "MASTER_ADDR": environment["SLURM_LAUNCH_NODE_IPADDR"],
        "MASTER_PORT": str(20000 + int(environment["SLURM_JOB_ID"]) % 12000),
    }


def run_child(line: Sequence[str], stop: signal.Signals, environment: Mapping[str, str] = os.environ) -> int:
    """Runs a program as a child, which gets `stop` when a signal asks this process to end.

    Returns its exit status, as a shell tells it: of one that a signal ended, 128 and the signal's number.
    """
    asked = InterruptFlag().install()
    child = subprocess.Popen(line, env=environment)
    while child.poll() is None and not asked.received:
        time.sleep(0.1)
    if asked.received:
        child.send_signal(stop)
    status = child.wait()
    return 128 - status if status < 0 else status


def main(arguments: Sequence[str]) -> int:
    """Becomes the client; returns only where that isn't possible, or where the client must not get all signals."""
    parser = argparse.ArgumentParser(prog="python -m jobs.cluster.container", description=__doc__)
    parser.add_argument("--backend", required=True, choices=BACKENDS)
    parser.add_argument("--image", required=True, help="a tag, or the path of a sandbox, a SIF or a squashfs file")
    parser.add_argument("--bind", action="append", default=[], metavar="FOLDER", help="one more; again for others")
    parser.add_argument("--option", action="append", default=[], metavar="WORD", help="for the client; --option=--x")
    parser.add_argument("words", nargs="+", metavar="WORD", help="the stage's line, or report RUNS/STUDY --out FOLDER")
    options = parser.parse_args(arguments)
    cache = user_cache()
    try:
        binds = dict.fromkeys(options.bind, True) | mounted_folders(options.words) | {str(cache): True}
        check_folders(binds, options.backend)
    except BadInput as error:
        print(f"jobs.cluster.container: {error}", file=sys.stderr)
        return BAD_INPUT
    try:
        for folder in (folder for folder, writes in binds.items() if writes):
            Path(folder).mkdir(parents=True, exist_ok=True)  # else the engine makes it, as root's
    except OSError as error:
        print(f"jobs.cluster.container: {folder} can't be bound into the container: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    line, environment = client_command(
        options.backend, options.image, options.words, binds=binds, options=options.option,
        environment={**os.environ, **step_mark(os.environ), "XDG_CACHE_HOME": str(cache.parent)},
    )  # fmt: skip
    name = container_name(options.words, os.environ)
    try:
        if name and options.backend == "docker":
            # a client that was killed leaves its container running; podman has --replace
            subprocess.run([options.backend, "rm", "--force", name], env=environment, capture_output=True, check=False)
        if options.backend == "pyxis":
            return run_child(line, signal.SIGUSR2, environment)  # srun gives it on; at SIGTERM it kills the stage
        # a client takes the signals that it gives on; the helpers that it starts must not die of them
        signal.pthread_sigmask(signal.SIG_BLOCK, CLIENT_SIGNALS)
        os.execvpe(line[0], line, environment)
    except OSError as error:
        print(f"jobs.cluster.container: {line[0]} can't be started here: {error.strerror}", file=sys.stderr)
        return FAULT


if __name__ == "__main__":
    use_utf8()
    sys.exit(main(sys.argv[1:]))
