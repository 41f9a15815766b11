"""Runs SLURM's commands."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from ssl_pkg.distributed.launch import launch_variables

_TIMEOUT_SECONDS: Final = 60.0  # after which a command is killed
_NOTICE_SECONDS: Final = 5.0  # time after which a notice says that a command has not answered
# Environment variables can set options of SLURM's commands. Such options override a batch script's, filter lists and
# change the format of times. The output is parsed here, so no such variable reaches a command. profile.py reads
# those that choose a job's partition and account. A job's own variables are removed too, because a study can be
# submitted from inside a job.
_OPTION_PREFIXES: Final = (
    "SACCT_", "SALLOC_", "SBATCH_", "SCANCEL_", "SCONTROL_", "SINFO_", "SLURM_", "SLURMD_", "SQUEUE_", "SRUN_",
    "SUBMITIT_",
)  # fmt: skip
_CLUSTER_VARIABLES: Final = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")  # the cluster and the user
ALREADY_REQUEUED: Final = "pending execution"  # scontrol's error for a job that has already been requeued
REQUEUE_REFUSALS: Final = ("Invalid job id", "disabled", "denied", "not permitted")
_COMMUNICATION_ERRORS: Final = (
    "ontact",
    "imed out",
    "Unexpected message",
    "onnection",
    "ommunication",
    "ocket",
    "eceive",
    "rotocol",
)


class SchedulerUnavailable(Exception):
    """SLURM does not respond. The text is that of its command."""

    def explain(self, remedy: str) -> str:
        """A sentence for the user. remedy: what to do when SLURM responds again."""
        return f"SLURM does not respond ({self}): {remedy}"


class SlurmMissing(SchedulerUnavailable):
    """SLURM's commands are not on this machine."""

    def explain(self, remedy: str = "") -> str:
        """A sentence for the user. The remedy is always to use another machine."""
        return f"SLURM is not available on this machine ({self}): use a login node, or load the cluster's SLURM module"


class SlurmError(SchedulerUnavailable):
    """SLURM has answered with an error. The text is that of its command."""

    def explain(self, remedy: str = "") -> str:
        """A sentence for the user. There is no general remedy."""
        return f"SLURM answers with an error: {self}"


def run_slurm(*line: str) -> "subprocess.CompletedProcess[str]":
    """Runs one of SLURM's commands and returns its output, whatever its exit status. All commands run through here.

    After 5 s a line on stderr says that the command is still running; after 60 s the command is killed.

    Raises SlurmMissing if there is no such command, and SchedulerUnavailable if it can't run or takes too long.
    """
    conf = os.environ.get("SLURM_CONF")
    if conf and not Path(conf).exists():  # SLURM's commands would try for a minute to fetch it
        raise SchedulerUnavailable(f"SLURM_CONF={conf} does not exist")
    try:
        process = subprocess.Popen(
            line,
            env=command_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # so that the children of a site's wrapper end with it
        )
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise SlurmMissing(f"{line[0]} not found") from error
        raise SchedulerUnavailable(f"{line[0]}: {error.strerror}") from error
    with process:
        try:
            out, err = _communicate(process, line[0])
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise SchedulerUnavailable(
                    f"{line[0]} did not answer within {_TIMEOUT_SECONDS:.0f} s{_last_line(error)}"
                ) from error
            raise
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def slurm_output(*line: str) -> str:
    """The output of one of SLURM's commands. Raises SchedulerUnavailable if the command fails."""
    done = run_slurm(*line)
    if done.returncode:
        errors = [text for text in done.stderr.splitlines() if text.strip()]
        raise SchedulerUnavailable(errors[-1].strip() if errors else f"{line[0]} ended with status {done.returncode}")
    return done.stdout


def job_fields(output: str) -> dict[str, str]:
    """The fields of `scontrol show job`. The first occurrence of a field counts, because a comment can repeat it."""
    return dict(reversed(re.findall(r"\b(\w+)=(\S*)", output)))


def command_environment() -> dict[str, str]:
    """This process's environment, without variables that change the options or the output of SLURM's commands."""
    launched = launch_variables(os.environ)
    return {
        name: value
        for name, value in os.environ.items()
        if name in _CLUSTER_VARIABLES or not (name.startswith(_OPTION_PREFIXES) or name in launched)
    }


def _communicate(process: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    try:
        return process.communicate(timeout=_NOTICE_SECONDS)
    except subprocess.TimeoutExpired:
        print(
            f"{name} has not answered for {_NOTICE_SECONDS:.0f} s; waiting up to {_TIMEOUT_SECONDS:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        return process.communicate(timeout=_TIMEOUT_SECONDS - _NOTICE_SECONDS)


def _last_line(error: subprocess.TimeoutExpired) -> str:
    """The last error of a command that was killed, for example that it retries."""
    errors = (error.stderr or b"").decode(errors="replace").strip().splitlines()
    return f": {errors[-1]}" if errors else ""


def is_communication_error(errors: str) -> bool:
    """Whether a command failed because the controller did not answer. The controller may still have acted on it."""
    return any(words in errors for words in _COMMUNICATION_ERRORS)


def is_refusal(errors: str) -> bool:
    """Whether the controller has refused a requeue for good. After any other error a retry may succeed."""
    return any(words in errors for words in REQUEUE_REFUSALS)
