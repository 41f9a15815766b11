"""The lines that this project adds to a job's batch script: environment, set-up lines, signal handling and srun.

submitit writes the script: first these lines, then a line that calls `srun`, which is a function by then.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from jobs.cluster.slurm_cli import ALREADY_REQUEUED, REQUEUE_REFUSALS
from ssl_pkg.errors import INTERRUPTED
from ssl_pkg.run.signals import SIGNAL_NAMES

CONTROLLER_SECONDS: Final = 900  # how long a requeue is retried while the controller does not respond
REQUEUE_SECONDS: Final = 180.0  # time within which SLURM ends a job that it has requeued
# Seconds before a step is asked for again: SLURM looks at old preemptions every 30 seconds.
RETRY_SECONDS: Final = (5, 20, 20)
FOLDER_MISSING: Final = "is gone: the study's folder was moved or removed while its job was in the queue"
RESIGNAL_SECONDS: Final = 2  # seconds after which a signal is repeated, until the step has ended
# An environment variable that names the start file, whose name ends with the batch script's process id. The stage's
# supervisor creates the file when it begins, and writes to it when it ends.
START_FILE: Final = "SSL_STAGE_START_FILE"
START_LINE: Final = "batch script: start "  # the first line of output; the number of the start follows
SETUP_DONE: Final = "batch script: set up"  # the line after the output of the set-up lines
CANCEL_FILE: Final = "cancelled"  # a file in a batch's folder, which `ssl-study cancel` creates
SETUP_FAILED: Final = "set-up line "  # the number of the set-up line that failed follows
KEPT_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "SLURM_CONF", "XDG_CACHE_HOME")
# Commands that only login shells define, as functions, and a line that defines each.
SHELL_FUNCTIONS: Final = {
    "module": "source /etc/profile.d/modules.sh",
    "ml": "source /etc/profile.d/lmod.sh",
    "conda": "source CONDA/etc/profile.d/conda.sh",
    "mamba": "source CONDA/etc/profile.d/mamba.sh",
    "spack": "source SPACK/share/spack/setup-env.sh",
}
SIGNALS: Final = " ".join(SIGNAL_NAMES)
# Blocks signals until the supervisor handles them. Otherwise a signal during Python's start would end the job.
BLOCK_SIGNALS: Final = (
    f"$(env --block-signal=TERM true 2>/dev/null && echo env --block-signal={SIGNALS.replace(' ', ',')})"
)

# The script must survive a signal to the whole job, as the stage does. It traps the signals instead of ignoring them,
# because its children would inherit that. A scancel and a preemption also reach the script, but then SLURM has already
# decided about the job. Even numbers are quoted, because a set-up line can set IFS.
SIGNAL_HANDLING: Final = f"""\
ssl_signalled= ssl_line= ssl_text= ssl_step= ssl_forwarder= ssl_folder=
ssl_job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID:-}}}}
ssl_job=${{ssl_job:-${{SLURM_JOB_ID:-}}}}
function ssl_on_signal {{
  ssl_signalled=1
  [ -z "$ssl_line" ] || ssl_requeue
  [ -z "$ssl_step" ] || ssl_forward_signal
}}
function ssl_forward_signal {{  # repeats the signal, because a step can miss it while it starts
  [ -z "$ssl_forwarder" ] || ! kill -0 "$ssl_forwarder" 2>/dev/null || return 0
  # srun forwards the signal to its own step. scancel could reach a later start of the job.
  (while kill -0 "$ssl_step"; do kill -USR2 -- "-$ssl_step"; sleep {RESIGNAL_SECONDS}; done) >/dev/null 2>&1 &
  ssl_forwarder=$!
}}
function ssl_sleep {{  # ends early at a signal; setsid, because a signal to the process group would kill sleep
  setsid sleep "$1" &
  wait "$!" || kill "$!" 2>/dev/null || true
}}
function ssl_exit_if_cancelled {{  # if `ssl-study cancel` came before this start, or during a requeue
  [ -e "$ssl_folder/{CANCEL_FILE}" ] || return 0
  echo "the study was cancelled, so the job cancels itself" >&2
  trap - {SIGNALS} EXIT
  scancel "$ssl_job" && sleep {REQUEUE_SECONDS:.0f}  # so that SLURM records the job as cancelled
  exit {INTERRUPTED}
}}
function ssl_requeue {{  # for a start that was interrupted before its stage began
  local ssl_output ssl_end=$((SECONDS + {CONTROLLER_SECONDS}))
  ssl_line=
  while :; do
    ssl_exit_if_cancelled
    if ssl_output=$(scontrol -o show job "$ssl_job" 2>&1); then
      case $ssl_output in *JobState=COMPLETING*|*JobState=CANCELLED*) exit {INTERRUPTED} ;; esac
      # A scancel by hand between these two commands is lost, because a requeue revives a cancelled job.
      ! ssl_output=$(scontrol requeue "$ssl_job" 2>&1) || break
      case $ssl_output in
        *"{ALREADY_REQUEUED}"*) break ;;
        {"|".join(f'*"{word}"*' for word in REQUEUE_REFUSALS)}) ssl_end=-1 ;;
      esac
    fi
    if [ "$SECONDS" -gt "$ssl_end" ]; then
      echo "interrupted, but the job could not be requeued ($ssl_output): submit it again" >&2
      exit {INTERRUPTED}
    fi
    ssl_sleep 2
  done
  ssl_exit_if_cancelled
  echo "interrupted before the stage began; the job is requeued" >&2
  trap - {SIGNALS} EXIT
  sleep {REQUEUE_SECONDS:.0f}  # a job that ends by itself now would count as failed
  exit {INTERRUPTED}
}}
function ssl_check_line {{  # STATUS [COMMAND DEFINITION]...: commands in the line that may be functions
  local ssl_status=$1 ssl_advice=
  shift
  [ "$ssl_status" != 0 ] || {{ ssl_line=; return 0; }}
  [ -z "$ssl_signalled" ] || ssl_requeue
  while [ "$#" -gt 1 ]; do
    declare -F "$1" >/dev/null || ssl_advice=": $1 is only defined in login shells: put a line like “$2” above"
    shift 2
  done
  echo "{SETUP_FAILED}$ssl_line failed (status $ssl_status): $ssl_text$ssl_advice" >&2
  ssl_line=
  exit "$ssl_status"
}}
function ssl_on_exit {{  # STATUS
  [ -n "$ssl_line" ] || return 0
  [ "$1" = 0 ] || ssl_check_line "$1"
  echo "{SETUP_FAILED}$ssl_line ended the batch script before the stage began (status 0): $ssl_text" >&2
  exit 1
}}
trap ssl_on_signal {SIGNALS}
trap 'ssl_on_exit "$?"' EXIT"""
# Removes relative entries from PYTHONPATH. An empty entry means the folder from which the study was submitted, where a
# module could replace one of the project or of its libraries, also with -P.
ABSOLUTE_PYTHONPATH: Final = """\
ssl_text=${PYTHONPATH-}: ssl_path=
while [ -n "$ssl_text" ]; do
  case ${ssl_text%%:*} in /*) ssl_path=$ssl_path:${ssl_text%%:*} ;; esac
  ssl_text=${ssl_text#*:}
done
[ -z "${PYTHONPATH+set}" ] || PYTHONPATH=${ssl_path#:}"""


def script_lines(setup: Sequence[str], folder: Path) -> list[str]:
    """The lines that come before submitit's. folder: the batch's folder."""
    number = "$((${SLURM_RESTART_COUNT:-0} + 1))"
    return [
        f'echo "{START_LINE}{number}"; echo "{START_LINE}{number}" >&2',
        SIGNAL_HANDLING,
        f"ssl_folder={shlex.quote(str(folder))}",
        "ssl_exit_if_cancelled",
        *environment_lines(os.environ),
        *setup_lines(setup),
        f"echo {shlex.quote(SETUP_DONE)}",
        "unset IFS",  # because bash splits submitit's srun line at blanks
        ABSOLUTE_PYTHONPATH,
        srun_function(folder),
    ]


def environment_lines(known: Mapping[str, str]) -> list[str]:
    """Lines that export KEPT_VARIABLES as in `known`, the submitter's environment, if the job lacks them.

    A job lacks them if the profile or the site sets --export=NONE or a list of variables.
    """
    lines = ["unset SLURM_EXPORT_ENV", '[ -n "${HOME:-}" ] || { unset HOME; export HOME=~; }']
    for name in filter(known.get, KEPT_VARIABLES):
        # `declare -x`, because bash sets PATH by itself without exporting it
        lines.append(f'[[ "$(declare -p {name} 2>&1)" == "declare -x"* ]] || export {name}={shlex.quote(known[name])}')
    if srun := shutil.which("srun", path=known.get("PATH")):
        lines.append(f'command -v srun >/dev/null || export PATH="$PATH":{shlex.quote(str(Path(srun).parent))}')
    return lines


def python_start_error() -> str | None:
    """The error if Python can't start with only the variables of `environment_lines`; None if it can."""
    lines = [
        *environment_lines(os.environ),
        f"exec {shlex.quote(sys.executable)} -P -c 'import jobs.cluster.node, submitit'",
    ]
    line = ["env", "-i", "bash", "-c", "\n".join(lines)]
    done = subprocess.run(line, cwd="/", capture_output=True, encoding="utf-8", errors="replace", check=False)
    return (done.stderr.strip().splitlines() or ["it prints nothing"])[-1] if done.returncode else None


def setup_lines(setup: Sequence[str]) -> list[str]:
    """The profile's set-up lines. The first line that fails ends the job.

    Each line runs in eval, which limits a syntax error to its line. A line can change the folder, export variables,
    source files and define functions.
    """
    lines = []
    for number, entry in enumerate(setup, 1):
        for command in _commands(entry):
            first, *more = command.strip().splitlines()
            shown = first + " …" * bool(more)
            used = [
                name
                for name in SHELL_FUNCTIONS
                if re.search(rf"(?:^|[;&|({{]|\bthen\b|\bdo\b)\s*{name}\s", command, re.M)
            ]
            functions = " ".join(shlex.quote(word) for name in used for word in (name, SHELL_FUNCTIONS[name]))
            lines += [f"ssl_text={shlex.quote(shown)} ssl_line={number}", f"eval {shlex.quote(command)}"]
            lines += [f'ssl_check_line "$?" {functions}'.rstrip()]
    return lines


def _commands(entry: str) -> Iterator[str]:
    """The complete commands of an entry, which may have several lines."""
    waiting: list[str] = []
    for line in entry.strip("\n").splitlines():
        waiting.append(line)
        if _is_complete("\n".join(waiting)):
            yield "\n".join(waiting)
            waiting = []
    if any(line.strip() for line in waiting):
        yield "\n".join(waiting)


def _is_complete(text: str) -> bool:
    """Whether the text has a command, and bash finds the end of every block, quotation and here-document."""
    return not syntax_error(text) and not _is_blank(text)


def syntax_error(text: str) -> str | None:
    """bash's error if these lines are not complete commands; None if they are."""
    if text.endswith("\\"):
        return "the last line ends with a backslash"
    error = ""
    for options in ((), ("-O", "extglob")):  # an earlier line may have enabled extglob
        done = subprocess.run(
            ["bash", *options, "-n"],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env={**os.environ, "LC_ALL": "C"},  # bash prints a warning if the locale is not installed
        )
        if done.returncode == 0 and not done.stderr:  # bash only warns about a here-document without an end
            return None
        error = error or re.sub(r"^bash: (line \d+: )?", "", done.stderr.strip().partition("\n")[0])
    return error


def _is_blank(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines())


def srun_function(folder: Path) -> str:
    """Lines that define a function `srun`, which calls srun. folder: the batch's folder, which has the start file.

    - The function retries a step that SLURM refuses ("already completing"). SLURM does so if it has preempted the job
      on a node that did not respond, and has just started it again on another node. It then requeues the job within
      30 seconds. If the script ended before that, the job would have failed.
    - If srun is thrown out by a requeue that does not reach the node, the function waits for its own end, because SLURM
      could take an exit for the end of the later start.
    - It sets SRUN_CPUS_PER_TASK, because srun no longer inherits --cpus-per-task since 22.05, and would bind a task to
      one CPU.
    - srun runs in its own session, which signals to the whole job do not reach, because SIGTERM makes srun kill its
      step.
    """
    return f"""\
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
ssl_folder={shlex.quote(str(folder))}
export {START_FILE}=$ssl_folder/start.$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}.$$
function srun {{
  local ssl_status ssl_pause
  for ssl_pause in {" ".join(map(str, RETRY_SECONDS))} end; do
    [ -d "$ssl_folder" ] || break
    [ -z "$ssl_signalled" ] || ssl_requeue
    (trap '' {SIGNALS}; exec setsid srun "$@") &
    ssl_step=$! ssl_status=0
    [ -z "$ssl_signalled" ] || ssl_forward_signal
    while wait "$ssl_step" || ssl_status=$?; kill -0 "$ssl_step" 2>/dev/null; do ssl_status=0; done
    ssl_step= ssl_forwarder=
    [ $ssl_status != 0 ] || return 0
    [ -e "${START_FILE}" ] || [ ! -d "$ssl_folder" ] || [ $ssl_pause = end ] || [ -n "$ssl_signalled" ] && break
    echo "srun: the stage has not begun (status $ssl_status): retrying in $ssl_pause s" >&2
    ssl_sleep $ssl_pause
  done
  if [ ! -d "$ssl_folder" ]; then
    echo "$ssl_folder {FOLDER_MISSING}" >&2
    return 2
  fi
  if [ ! -s "${START_FILE}" ]; then
    [ ! -e "${START_FILE}" ] || [ -n "$ssl_signalled" ] || ssl_sleep {REQUEUE_SECONDS:.0f}
    [ -z "$ssl_signalled" ] || ssl_requeue
  fi
  return $ssl_status
}}"""
