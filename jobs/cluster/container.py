"""Runs a stage's command line in a container.

    python -m jobs.cluster.container --backend docker --image IMAGE -- stage=…

The folders in the stage's command line, and the user's cache, have the same paths inside the container. This process
replaces itself by the container's client (exec), which forwards signals to the stage and returns its exit status.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ssl_pkg.cache import user_cache
from ssl_pkg.catalogue import RANDOM
from ssl_pkg.config.overrides import split_literals
from ssl_pkg.config.schema import SYNTHETIC
from ssl_pkg.distributed.launch import STEP, is_task, master_port, step_mark
from ssl_pkg.errors import BAD_INPUT, FAULT, BadInput
from ssl_pkg.messages.streams import use_utf8
from ssl_pkg.run.signals import SIGNAL_NAMES, InterruptFlag

# The image's entry point, for backends that do not run it by themselves.
ENTRY_POINT: Final = (
    "env", *(f"--block-signal={name}" for name in SIGNAL_NAMES), "python", "-P", "-m", "jobs.image",
)  # fmt: skip
BACKENDS: Final = ("docker", "podman", "apptainer", "pyxis")
# Removes variables of the host that would affect the image's Python, for backends that pass the environment.
UNSET_HOST_VARIABLES: Final = (
    "env",
    *(f"--unset={name}" for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD")),
)
# Make enroot mount the GPUs.
ENROOT_GPU_VARIABLES: Final = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
SESSION_VARIABLES: Final = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")  # used by rootless podman
CLIENT_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# the variables of a launch, and users' settings of PyTorch's libraries
PASSED_VARIABLES: Final = re.compile(
    r"SLURM_\w+|(OMP|MKL|NCCL|GLOO|TORCH|TORCHELASTIC|MASTER|LOCAL|PYTORCH)_\w+|RANK|WORLD_SIZE|XDG_CACHE_HOME|" + STEP
)


def mounted_folders(words: Sequence[str]) -> dict[str, bool]:
    """The folders in a stage's or the report's command line -> whether they are written. Raises BadInput."""
    if words[0] == "report":
        return {words[1]: False, words[words.index("--out") + 1]: True}
    found: dict[str, bool] = {}
    given, _ = split_literals(words)
    if given.get("data.root", SYNTHETIC) != SYNTHETIC:
        found[given["data.root"]] = False
    if given.get("source", RANDOM) != RANDOM:
        found[str(Path(given["source"]).parent)] = False
    found[str(Path(given["run_dir"]).parent)] = True
    return found


def check_folders(binds: Iterable[str], backend: str) -> None:
    """Raises BadInput if a folder's path has a character with a meaning in the client's options."""
    for folder in binds:
        if wrong := re.search(r"[:,\n]" if backend != "pyxis" else r"[:,$\s]", folder):
            raise BadInput(f"{folder} contains {wrong[0]!r}, which {backend} does not allow: give another folder")


def client_command(
    backend: str,
    image: str,
    words: Sequence[str],
    *,
    binds: Mapping[str, bool],
    environment: Mapping[str, str],
    options: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """The client's command line, and its environment.

    words: the stage's command line. binds: folders to mount -> whether they are written. environment: this process's.
    """
    mounts = [f"{folder}:{folder}{'' if writes else ':ro'}" for folder, writes in binds.items()]
    gpus = environment.get("SLURM_STEP_GPUS") or environment.get("SLURM_JOB_GPUS") or ""
    client = _Client(image, words, mounts, gpus, environment, options)
    if backend == "apptainer":
        return client.apptainer()
    return client.pyxis() if backend == "pyxis" else client.engine(backend)


@dataclass(frozen=True)
class _Client:
    """The parts of a client's command line. Each method returns the line of one backend, and its environment."""

    image: str
    words: Sequence[str]
    mounts: Sequence[str]
    gpus: str  # the job's GPUs, separated by commas
    environment: Mapping[str, str]
    options: Sequence[str]

    def apptainer(self) -> tuple[list[str], dict[str, str]]:
        # without --no-eval a shell would expand $ and quotes in words and variables
        line = ["apptainer", "exec", "--no-eval", "--cleanenv", "--no-home", "--pwd", "/runs"]
        line += ["--nv"] * bool(self.gpus) + [word for mount in self.mounts for word in ("--bind", mount)]
        line += [*self.options, self.image, *ENTRY_POINT, *self.words]
        passed = {name for name in self.environment if _is_passed(name) or name == "CUDA_VISIBLE_DEVICES"}
        return line, {**self.environment, **{f"APPTAINERENV_{name}": self.environment[name] for name in passed}}

    def pyxis(self) -> tuple[list[str], dict[str, str]]:
        line = ["srun", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={self.environment['SLURMD_NODENAME']}"]
        line += [f"--container-image={self.image}", f"--container-mounts={','.join(self.mounts)}"]
        # --container-env: the host's value overrides the image's
        line += ["--no-container-mount-home", "--container-workdir=/runs", "--container-env=XDG_CACHE_HOME"]
        # --cpu-bind=none, because the CPU mask of the outer step may be that of another rank
        line += ["--no-container-entrypoint", "--cpu-bind=none", *self.options]
        line += [*UNSET_HOST_VARIABLES, *ENTRY_POINT, *self.words]
        gpu_variables = ENROOT_GPU_VARIABLES if self.gpus else {}
        return line, {**self.environment, **_torchrun_variables(self.environment), **gpu_variables}

    def engine(self, name: str) -> tuple[list[str], dict[str, str]]:
        """docker or podman."""
        line = [name, "run", "--rm", "--read-only", "--tmpfs", "/tmp:exec", "--network=host", "--ipc=host"]
        line += [f"--user={os.getuid()}:{os.getgid()}"]
        container = container_name(self.words, self.environment)
        line += [f"--name={container}"] * (container is not None)
        if name == "docker":
            line += [f"--group-add={group}" for group in os.getgroups()]
            line += [f'--gpus="device={self.gpus}"'] * bool(self.gpus)
        else:
            line += ["--replace"] * (container is not None) + ["--userns=keep-id"] * (os.getuid() != 0)
            line += [f"--device=nvidia.com/gpu={gpu}" for gpu in self.gpus.split(",") if gpu]
        line += [word for mount in self.mounts for word in ("--volume", mount)]
        line += [f"--env={variable}" for variable in sorted(filter(_is_passed, self.environment))]
        line += [*self.options, self.image, *self.words]
        dropped = () if _session_is_local(self.environment) else SESSION_VARIABLES
        return line, {variable: value for variable, value in self.environment.items() if variable not in dropped}


def _is_passed(name: str) -> bool:
    """Whether a container gets this variable of the host."""
    return PASSED_VARIABLES.fullmatch(name) is not None


def container_name(words: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """A name for one process of a SLURM job, the same in all its starts; None outside SLURM."""
    job = environment.get("SLURM_JOB_ID")
    run = hashlib.sha256(os.fsencode(split_literals(words)[0].get("run_dir") or shlex.join(words))).hexdigest()[:12]
    return f"ssl-study-{job}-{environment.get('SLURM_PROCID', '0')}-{run}" if job else None


def _session_is_local(environment: Mapping[str, str]) -> bool:
    """Whether the session in the environment is one of this host. sbatch copies the variables of the login node."""
    return os.access(environment.get("XDG_RUNTIME_DIR", ""), os.W_OK)


def _torchrun_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The rank in torchrun's variables, because the container's own step has one task; empty for one process."""
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) == 1 or not is_task(environment):
        return {}
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": environment.get("SLURM_NTASKS_PER_NODE", "1"),
        "MASTER_ADDR": environment["SLURM_LAUNCH_NODE_IPADDR"],
        "MASTER_PORT": str(master_port(int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"]))),
    }


def run_child(line: Sequence[str], stop: signal.Signals, environment: Mapping[str, str] = os.environ) -> int:
    """Runs a program as a child. When a signal asks this process to end, the child gets `stop`.

    Returns the exit status as a shell does: 128 plus the signal's number if a signal ended the child.
    """
    interrupt = InterruptFlag().install()
    child = subprocess.Popen(line, env=environment)
    while child.poll() is None and not interrupt.received:
        time.sleep(0.1)
    if interrupt.received:
        child.send_signal(stop)
    status = child.wait()
    return 128 - status if status < 0 else status


def main(arguments: Sequence[str]) -> int:
    """Becomes the client. Returns only if that fails, or with pyxis, whose client runs as a child."""
    parser = argparse.ArgumentParser(prog="python -m jobs.cluster.container", description=__doc__)
    parser.add_argument("--backend", required=True, choices=BACKENDS)
    parser.add_argument("--image", required=True, help="a tag, or the path of a sandbox, a SIF or a squashfs file")
    parser.add_argument("--bind", action="append", default=[], metavar="FOLDER", help="a further folder to mount")
    parser.add_argument(
        "--option", action="append", default=[], metavar="WORD", help="for the client, like --option=--x"
    )
    parser.add_argument("words", nargs="+", metavar="WORD", help="of a stage, or report RUNS/STUDY --out FOLDER")
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
            Path(folder).mkdir(parents=True, exist_ok=True)  # otherwise the engine creates it as root
    except OSError as error:
        print(f"jobs.cluster.container: {folder} can't be mounted in the container: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    line, environment = client_command(
        options.backend, options.image, options.words, binds=binds, options=options.option,
        environment={**os.environ, **step_mark(os.environ), "XDG_CACHE_HOME": str(cache.parent)},
    )  # fmt: skip
    name = container_name(options.words, os.environ)
    try:
        if name and options.backend == "docker":
            # a client that was killed leaves its container running; podman uses --replace instead
            subprocess.run([options.backend, "rm", "--force", name], env=environment, capture_output=True, check=False)
        if options.backend == "pyxis":
            return run_child(line, signal.SIGUSR2, environment)  # srun forwards SIGUSR2, but kills the step at SIGTERM
        # the client unblocks the signals that it forwards, its helper processes must not get them
        signal.pthread_sigmask(signal.SIG_BLOCK, CLIENT_SIGNALS)
        os.execvpe(line[0], line, environment)
    except OSError as error:
        print(f"jobs.cluster.container: {line[0]} can't be started on this machine: {error.strerror}", file=sys.stderr)
        return FAULT


if __name__ == "__main__":
    use_utf8()
    sys.exit(main(sys.argv[1:]))
