"""The image's entry point: `docker run IMAGE …`. Its messages advise on mounts and users of the container."""

import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

import yaml

from jobs.__main__ import main as jobs
from jobs.cluster.container import run_child
from ssl_pkg.catalogue import RANDOM, STAGES
from ssl_pkg.config.overrides import key_of, split_literals
from ssl_pkg.config.presets import CONF, budgets, methods
from ssl_pkg.config.schema import SYNTHETIC
from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput
from ssl_pkg.messages.nearest import hint
from ssl_pkg.messages.streams import prepare_streams
from ssl_pkg.run.study_plan import REPORT_FILE

DATA: Final = Path("/data")
OUT: Final = Path("/out")
RUNS: Final = Path("/runs")
PROGRAMS: Final = {"report": ("analysis",), "data": ("ssl_pkg.data.download", str(DATA))}

HELP: Final = """\
Runs a self-supervised-learning study (SimCLR, BYOL, MoCo v2, a supervised ResNet-18) and writes its report. DATA, OUT,
RUNS and CACHE are absolute paths of your folders. Create them first, because the engine would create them as root.

The whole study on the synthetic set takes three to ten minutes on two cores, and writes report.pdf to the folder out:

  me="--user=$(id -u):$(id -g)"                 # the default is user 1000
  mkdir -p out && docker run --rm $me -v "$PWD/out:/out" IMAGE demo

On real images. `data` downloads STL-10 and CIFAR-10 (3 GB) into the folder DATA:

  docker run --rm $me -v DATA:/data IMAGE data
  docker run --rm $me --gpus all -v DATA:/data:ro -v OUT:/out IMAGE study stl10 --seeds "0 1 2"
  docker run --rm $me -v OUT:/out IMAGE status stl10         # `report stl10` builds the report of the complete runs

A single stage. run_dir and source are relative to RUNS. Without /data it uses the synthetic set. To try: budget=tiny.

  docker run --rm $me -v DATA:/data:ro -v RUNS:/runs IMAGE stage=pretrain method=simclr run_dir=mine/pretrain
  docker run --rm $me -v DATA:/data:ro -v RUNS:/runs IMAGE stage=probe source=mine/pretrain run_dir=mine/probe

  stage   {stages}
  method  {methods}
  budget  {budgets}

--gpus all                       compute on the GPUs
-v CACHE:/cache                  keep the synthetic set and compiled code for later containers
--read-only --tmpfs /tmp:exec    make everything else read-only
--user                           with rootless podman --userns=keep-id instead, with rootless docker --user 0:0

With --name NAME, `docker stop -t 60 NAME` makes a run write a checkpoint. The same command resumes it. After a kill -9
the command first waits for one minute, to be sure that no other container writes to the run.
Exit status: 0 complete, 75 interrupted (run the same command again), 2 wrong input, 1 other errors.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the words after IMAGE. Returns the exit status; a stage replaces this process (exec)."""
    command, *rest = arguments or ["help"]
    try:
        if "=" in command or command in ("demo", "study"):
            _check_temporary()
        if "=" in command:
            line = [sys.executable, "-P", "-m", "ssl_pkg", *stage_line(arguments)]
            os.execv(line[0], line)
        if command == "demo":
            return _study(["demo", *rest], arguments)
        if command == "study":
            if not rest or rest[0].startswith("-"):
                raise BadInput("give the study's name first, like `study stl10`")
            return _study([*rest, *(f"--data={root}" for root in mounted_images(rest[0]))], arguments)
        if command in ("status", "logs"):
            if not _mounted(OUT):
                raise BadInput(f"nothing is mounted at {OUT}: add -v OUT:{OUT}, with the folder of the study for OUT")
            return _run_program("jobs", command, *rest, f"--runs={OUT / 'runs'}")
        if command == "data":
            _check_writable(DATA, "DATA")
        if command == "report":
            rest = _report_line(rest)
        if command in PROGRAMS:
            return _run_program(*PROGRAMS[command], *rest)
        if command not in ("help", "-h", "--help"):
            known = ("demo", "study", "status", "logs", "help", *PROGRAMS)
            raise BadInput(
                f"the image has no command {command!r}{hint(command, known)}: without arguments it prints its help"
            )
    except BadInput as error:
        print(f"ssl-study: {error}", file=sys.stderr)
        return BAD_INPUT
    print(HELP.format(stages=" | ".join(STAGES), methods=" | ".join(methods()), budgets=" | ".join(budgets())), end="")
    return COMPLETE


def _report_line(words: Sequence[str]) -> list[str]:
    """`report`'s words, with the path of each study in /out/runs, and then with the report in /out/reports."""
    studies = list(takewhile(lambda word: not word.startswith("-"), words))
    runs = OUT / "runs"
    # os.access, because Path.is_dir raises an error for a folder without permission
    known = {word for word in studies if (runs / word).parent == runs and os.access(runs / word, os.F_OK)}
    if not known:
        return list(words)
    out = OUT / "reports" / "+".join(Path(study).name for study in studies)
    places = [str(runs / word) if word in known else word for word in studies]
    return [*places, f"--out={out}", *words[len(studies) :]]  # a later --out counts


def stage_line(words: Sequence[str]) -> list[str]:
    """A stage's command line, with data.root=/data if images are mounted. Raises BadInput for a missing mount."""
    given, others = split_literals(words)
    if "run_dir" not in given:
        raise BadInput(f"run_dir is missing: give one like run_dir=mine/pretrain, relative to RUNS in -v RUNS:{RUNS}")
    _check_writable(RUNS / given["run_dir"], "RUNS")
    if given.get("source", RANDOM) != RANDOM:
        _check_mounted("source", RUNS / given["source"])
    if root := given.get("data.root"):
        if root != SYNTHETIC:
            _check_mounted("data.root", RUNS / root)
        return list(words)
    studies = [word.partition("=")[2] for word in others if key_of(word) == "study"]
    return [*words, *(f"data.root={root}" for root in mounted_images(studies[-1] if studies else "demo"))]


def mounted_images(study: str) -> list[str]:
    """[/data] if images are mounted, [] for a study on the synthetic set. Raises BadInput for other studies."""
    if _mounted(DATA):
        if not os.access(DATA, os.R_OK | os.X_OK):
            raise BadInput(f"user {os.getuid()} can't read the folder that is mounted at {DATA}: give another --user")
        if not any(DATA.iterdir()):
            raise BadInput(f"{DATA} is empty: give the folder with the images for DATA in -v DATA:{DATA}:ro")
        return [str(DATA)]
    file = CONF / "study" / f"{study}.yaml"
    if file.is_file() and yaml.safe_load(file.read_text(encoding="utf-8"))["data"]["root"] != SYNTHETIC:
        raise BadInput(f"study {study} needs images, but nothing is mounted at {DATA}: add -v DATA:{DATA}:ro")
    return []


def _study(line: list[str], typed: Sequence[str]) -> int:
    """Runs a study in /out, and copies its report to /out/report.pdf."""
    _check_writable(OUT, "OUT")
    line += [f"--runs={OUT / 'runs'}", f"--reports={OUT / 'reports'}"]
    status = jobs(["study", *line], resume_command=f"docker run … IMAGE {shlex.join(typed)}")
    report = OUT / "reports" / line[0] / REPORT_FILE
    if status == COMPLETE and report.is_file():
        try:
            shutil.copyfile(report, OUT / report.name)
        except OSError as error:
            print(f"{OUT / report.name} can't be written: {error.strerror}; the report is {report}", file=sys.stderr)
        else:
            print(f"{report.name} is in the folder that is mounted at {OUT}.")
    return status


def _check_writable(folder: Path, name: str) -> None:
    """Raises BadInput unless `folder` is in a mount that this user can write. name: of its folder in the help."""
    folder = folder.resolve()  # because .. or a link may lead out of the mount
    beside = folder if folder.parent == Path("/") else folder.parent
    top = next((top for top in (DATA, OUT, RUNS) if top in (folder, *folder.parents)), beside)
    if not _mounted(folder):
        raise BadInput(
            f"{folder} would be lost with the container, because nothing is mounted there: add -v {name}:{top}"
        )
    # os.access, because Path.exists raises an error for a folder without permission
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise BadInput(f"{top} is mounted read-only, but {folder} must be writable: leave out its :ro")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadInput(
            f"user {os.getuid()} can't write to {existing}, which belongs to user {existing.stat().st_uid}: create "
            'the folder first, and add --user "$(id -u):$(id -g)" (rootless podman: --userns=keep-id; '
            "rootless docker: --user 0:0)"
        )


def _check_temporary() -> None:
    if not os.access("/tmp", os.W_OK):  # otherwise Python would write temporary files to the runs' folder
        raise BadInput("/tmp is not writable: with --read-only also give --tmpfs /tmp:exec")


def _check_mounted(key: str, folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise BadInput(f"{key}={folder} does not exist in the container: mount its parent folder with -v")


def _mounted(folder: Path) -> bool:
    """Whether `folder` is in a mount, and not in the container's own file system."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    # the kernel writes a space and some other characters as a backslash and three octal digits
    points = {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split()[4]) for line in lines}
    return any(str(path) in points for path in (folder, *folder.parents) if path != Path("/"))


def _run_program(module: str, *arguments: str) -> int:
    """Runs another program of the image as a child, because a container's first process ignores signals by default."""
    return run_child([sys.executable, "-P", "-m", module, *arguments], signal.SIGTERM)


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
