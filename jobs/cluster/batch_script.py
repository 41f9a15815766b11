"""The lines of a job's batch script that are this project's: environment, set-up lines, signals and srun.

submitit writes the script: these lines, then its own `srun`, which is a function by then.
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

CONTROLLER_SECONDS: Final = 900  # seconds that a controller may be away when a job wants to be requeued
REQUEUE_SECONDS: Final = 180.0  # seconds within which SLURM ends a job that it has requeued
RETRY_SECONDS: Final = (
    5,
    20,
    20,
)  # seconds before a step is asked for again: SLURM looks at old preemptions every 30 seconds
FOLDER_MISSING: Final = "is gone: the study's folder was moved or removed while its job was in the queue"
RESIGNAL_SECONDS: Final = 2  # seconds until a signal is sent again to a step that has not ended
# names a file, with the script's pid at its end: there once a start has begun on its node, not empty once it has ended
START_FILE: Final = "SSL_STAGE_MARK"
START_LINE: Final = "batch script: start "  # begins the line that the script prints first, with the number of its start
SETUP_DONE: Final = "batch script: set up"  # the line below the output of the set-up lines
CANCEL_FILE: Final = "cancelled"  # a file in a batch's folder: `jobs cancel` has cancelled its jobs
SETUP_FAILED: Final = "set-up line "  # begins the line in which the script names the set-up line that failed
KEPT_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "SLURM_CONF", "XDG_CACHE_HOME")
# Commands that are functions of a login shell, and a line that defines each.
SHELL_FUNCTIONS: Final = {
    "module": "source /etc/profile.d/modules.sh",
    "ml": "source /etc/profile.d/lmod.sh",
    "conda": "source CONDA/etc/profile.d/conda.sh",
    "mamba": "source CONDA/etc/profile.d/mamba.sh",
    "spack": "source SPACK/share/spack/setup-env.sh",
}
SIGNALS: Final = "TERM INT HUP USR1 USR2 QUIT ALRM"
# Until the stage's process can take a signal, it waits: without this, one that comes while Python starts ends the job.
BLOCK_SIGNALS: Final = (
    f"$(env --block-signal=TERM true 2>/dev/null && echo env --block-signal={SIGNALS.replace(' ', ',')})"
)

# The script outlives a signal to the whole job, as the stage does. It must not ignore the signals, because its children
# would ignore them too. A plain scancel and a preemption also reach it, but then SLURM has decided about the job.
# Expansions are quoted also where they hold numbers only, because a set-up line can set IFS.
SIGNAL_HANDLING: Final = f"""\
ssl_asked= ssl_line= ssl_text= ssl_step= ssl_sender= ssl_folder=
ssl_job=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID:-}}}}
ssl_job=${{ssl_job:-${{SLURM_JOB_ID:-}}}}
function ssl_signalled {{
  ssl_asked=1
  [ -z "$ssl_line" ] || ssl_come_back
  [ -z "$ssl_step" ] || ssl_send
}}
function ssl_send {{  # asks the stage to stop, again and again, because a step that is just starting can miss it
  [ -z "$ssl_sender" ] || ! kill -0 "$ssl_sender" 2>/dev/null || return 0
  # srun forwards the signal to its own step. scancel would name the job, and could reach a later start of it.
  (while kill -0 "$ssl_step"; do kill -USR2 -- "-$ssl_step"; sleep {RESIGNAL_SECONDS}; done) >/dev/null 2>&1 &
  ssl_sender=$!
}}
function ssl_sleep {{  # until a signal comes; setsid, because one to the job's process group would reach it too
  setsid sleep "$1" &
  wait "$!" || kill "$!" 2>/dev/null || true
}}
function ssl_cancelled {{  # ends a start that began, or a job that was requeued, after `jobs cancel`
  [ -e "$ssl_folder/{CANCEL_FILE}" ] || return 0
  echo "the study was cancelled: the job is cancelled" >&2
  trap - {SIGNALS} EXIT
  scancel "$ssl_job" && sleep {REQUEUE_SECONDS:.0f}  # so that SLURM, too, records the job as cancelled
  exit {INTERRUPTED}
}}
function ssl_come_back {{  # ends a start that was interrupted while no stage was at work
  local ssl_said ssl_end=$((SECONDS + {CONTROLLER_SECONDS}))
  ssl_line=
  while :; do
    ssl_cancelled
    if ssl_said=$(scontrol -o show job "$ssl_job" 2>&1); then
      case $ssl_said in *JobState=COMPLETING*|*JobState=CANCELLED*) exit {INTERRUPTED} ;; esac
      # A plain scancel that SLURM handles between these two commands is lost: a requeue revives a cancelled job.
      ! ssl_said=$(scontrol requeue "$ssl_job" 2>&1) || break
      case $ssl_said in
        *"{ALREADY_REQUEUED}"*) break ;;
        {"|".join(f'*"{word}"*' for word in REQUEUE_REFUSALS)}) ssl_end=-1 ;;
      esac
    fi
    if [ "$SECONDS" -gt "$ssl_end" ]; then
      echo "interrupted, and the job could not be requeued ($ssl_said): submit it again" >&2
      exit {INTERRUPTED}
    fi
    ssl_sleep 2
  done
  ssl_cancelled
  echo "interrupted before the stage was at work: requeued" >&2
  trap - {SIGNALS} EXIT
  sleep {REQUEUE_SECONDS:.0f}  # SLURM calls a job failed that ends by itself now
  exit {INTERRUPTED}
}}
function ssl_checked {{  # a set-up line's status, then commands in it that may be functions, each with what defines it
  local ssl_status=$1 ssl_advice=
  shift
  [ "$ssl_status" != 0 ] || {{ ssl_line=; return 0; }}
  [ -z "$ssl_asked" ] || ssl_come_back
  while [ "$#" -gt 1 ]; do
    declare -F "$1" >/dev/null || ssl_advice=": $1 is defined in login shells only: put a line like “$2” above"
    shift 2
  done
  echo "{SETUP_FAILED}$ssl_line failed (status $ssl_status): $ssl_text$ssl_advice" >&2
  ssl_line=
  exit "$ssl_status"
}}
function ssl_left {{  # the script ends, perhaps by a set-up line
  [ -n "$ssl_line" ] || return 0
  [ "$1" = 0 ] || ssl_checked "$1"
  echo "{SETUP_FAILED}$ssl_line ended the job's script before its stage began (status 0): $ssl_text" >&2
  exit 1
}}
trap ssl_signalled {SIGNALS}
trap 'ssl_left "$?"' EXIT"""
# An empty entry of PYTHONPATH stands for the folder from which the study was submitted. A module there could replace
# one of the project or of its libraries, also under -P.
ABSOLUTE_PYTHONPATH: Final = """\
ssl_text=${PYTHONPATH-}: ssl_path=
while [ -n "$ssl_text" ]; do
  case ${ssl_text%%:*} in /*) ssl_path=$ssl_path:${ssl_text%%:*} ;; esac
  ssl_text=${ssl_text#*:}
done
[ -z "${PYTHONPATH+set}" ] || PYTHONPATH=${ssl_path#:}"""


def script_lines(setup: Sequence[str], folder: Path) -> list[str]:
    """The lines that come before submitit's. `folder` is the batch's own."""
    number = "$((${SLURM_RESTART_COUNT:-0} + 1))"
    return [
        f'echo "{START_LINE}{number}"; echo "{START_LINE}{number}" >&2',
        SIGNAL_HANDLING,
        f"ssl_folder={shlex.quote(str(folder))}",
        "ssl_cancelled",
        *environment_lines(os.environ),
        *setup_lines(setup),
        f"echo {shlex.quote(SETUP_DONE)}",
        "unset IFS",  # submitit's line with srun is split at blanks
        ABSOLUTE_PYTHONPATH,
        srun_function(folder),
    ]


def environment_lines(known: Mapping[str, str]) -> list[str]:
    """Lines that give a job what it needs of the submitter's environment.

    With --export=NONE or a list, by the profile or by the site, the job lacks it, and so do its steps.
    """
    lines = ["unset SLURM_EXPORT_ENV", '[ -n "${HOME:-}" ] || { unset HOME; export HOME=~; }']
    for name in (
        name for name in KEPT_VARIABLES if known.get(name)
    ):  # bash sets PATH by itself, but does not export it
        lines.append(f'[[ "$(declare -p {name} 2>&1)" == "declare -x"* ]] || export {name}={shlex.quote(known[name])}')
    if srun := shutil.which("srun", path=known.get("PATH")):
        lines.append(f'command -v srun >/dev/null || export PATH="$PATH":{shlex.quote(str(Path(srun).parent))}')
    return lines


def python_start_error() -> str | None:
    """Why the Python that waits for the stages does not start with the script's environment alone; None if it does."""
    lines = [
        *environment_lines(os.environ),
        f"exec {shlex.quote(sys.executable)} -P -c 'import jobs.cluster.node, submitit'",
    ]
    line = ["env", "-i", "bash", "-c", "\n".join(lines)]
    done = subprocess.run(line, cwd="/", capture_output=True, encoding="utf-8", errors="replace", check=False)
    return (done.stderr.strip().splitlines() or ["it says nothing"])[-1] if done.returncode else None


def setup_lines(setup: Sequence[str]) -> list[str]:
    """The profile's set-up lines, of which the first that fails ends the job.

    eval keeps a syntax error to its own line. Nothing else changes: a line can change the folder, export, source files
    and define functions.
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
            advice = " ".join(shlex.quote(word) for name in used for word in (name, SHELL_FUNCTIONS[name]))
            lines += [f"ssl_text={shlex.quote(shown)} ssl_line={number}", f"eval {shlex.quote(command)}"]
            lines += [f'ssl_checked "$?" {advice}'.rstrip()]
    return lines


def _commands(entry: str) -> Iterator[str]:
    """The commands of an entry of several lines, each of which is checked by itself."""
    waiting: list[str] = []
    for line in entry.strip("\n").splitlines():
        waiting.append(line)
        if _is_complete("\n".join(waiting)):
            yield "\n".join(waiting)
            waiting = []
    if any(line.strip() for line in waiting):
        yield "\n".join(waiting)


def _is_complete(text: str) -> bool:
    """Whether bash finds no end missing: of a block, a quotation or a here-document (of which it only warns)."""
    return not syntax_error(text) and not _is_blank(text)


def syntax_error(text: str) -> str | None:
    """Why these lines are not complete commands, in bash's words; None if they are."""
    if text.endswith("\\"):
        return "the last line ends with a backslash"
    said = ""
    for options in ((), ("-O", "extglob")):  # a line above can have switched the patterns of extglob on
        done = subprocess.run(
            ["bash", *options, "-n"],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env={**os.environ, "LC_ALL": "C"},  # with a locale that is not installed, bash would print a warning
        )
        if done.returncode == 0 and not done.stderr:  # of a here-document without its end bash only warns
            return None
        said = said or re.sub(r"^bash: (line \d+: )?", "", done.stderr.strip().partition("\n")[0])
    return said


def _is_blank(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines())


def srun_function(folder: Path) -> str:
    """Lines for the batch script that put themselves in srun's place; what they note lies in `folder`.

    SLURM refuses steps to a job ("already completing") that was preempted on a node that didn't answer, and has just
    begun anew on another: it still holds the old preemption against it, and requeues it within half a minute. Till then
    the script must not end, or the job has failed. And where srun is thrown out by a requeue that doesn't reach the
    node, the script waits for its end: one that ends by itself could be taken for the end of the later start.

    From 22.05 on srun doesn't take over how many CPUs a task of the job has, and would bind it to one.

    srun kills its step at SIGTERM. It gets a session of its own, which a signal to the whole job does not reach.
    """
    return f"""\
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
ssl_folder={shlex.quote(str(folder))}
export {START_FILE}=$ssl_folder/start.$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}.$$
function srun {{
  local ssl_status ssl_pause
  for ssl_pause in {" ".join(map(str, RETRY_SECONDS))} end; do
    [ -d "$ssl_folder" ] || break
    [ -z "$ssl_asked" ] || ssl_come_back
    (trap '' {SIGNALS}; exec setsid srun "$@") &
    ssl_step=$! ssl_status=0
    [ -z "$ssl_asked" ] || ssl_send
    while wait "$ssl_step" || ssl_status=$?; kill -0 "$ssl_step" 2>/dev/null; do ssl_status=0; done
    ssl_step= ssl_sender=
    [ $ssl_status != 0 ] || return 0
    [ -e "${START_FILE}" ] || [ ! -d "$ssl_folder" ] || [ $ssl_pause = end ] || [ -n "$ssl_asked" ] && break
    echo "srun: the stage has not begun (status $ssl_status): again in $ssl_pause s" >&2
    ssl_sleep $ssl_pause
  done
  if [ ! -d "$ssl_folder" ]; then
    echo "$ssl_folder {FOLDER_MISSING}" >&2
    return 2
  fi
  if [ ! -s "${START_FILE}" ]; then
    [ ! -e "${START_FILE}" ] || [ -n "$ssl_asked" ] || ssl_sleep {REQUEUE_SECONDS:.0f}
    [ -z "$ssl_asked" ] || ssl_come_back
  fi
  return $ssl_status
}}"""
