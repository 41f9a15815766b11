"""What `docker run IMAGE …` does: the image's entry point. It speaks of mounts where the other commands speak of
folders."""

import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

import ssl_pkg
from jobs.__main__ import main as jobs
from jobs.cluster.container import run_child
from ssl_pkg.catalogue import RANDOM, STAGES
from ssl_pkg.config import SYNTHETIC, methods
from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput
from ssl_pkg.nearest import hint
from ssl_pkg.overrides import key_of, split_literals
from ssl_pkg.streams import prepare_streams

DATA: Final = Path("/data")
OUT: Final = Path("/out")
RUNS: Final = Path("/runs")
CONF: Final = Path(ssl_pkg.__path__[0]) / "conf"
PROGRAMS: Final = {"report": ("analysis",), "data": ("ssl_pkg.data.download", str(DATA))}

HELP: Final = """\
Runs a self-supervised-learning study (SimCLR, BYOL, MoCo v2, a supervised ResNet-18) and writes its report. DATA, OUT,
RUNS and CACHE stand for folders of yours, whole paths, made first: a missing one the engine makes as root's.

The whole study on synthetic images, ten minutes on two cores; it leaves report.pdf in the folder out:

  me="--user=$(id -u):$(id -g)"                 # else it runs as user 1000
  mkdir -p out && docker run --rm $me -v "$PWD/out:/out" IMAGE demo

On real images; DATA is the folder with stl10_binary/ and a CIFAR-10 folder, and `data` fetches them into it (3 GB):

  docker run --rm $me -v DATA:/data IMAGE data
  docker run --rm $me --gpus all -v DATA:/data:ro -v OUT:/out IMAGE study stl10 --seeds "0 1 2"
  docker run --rm $me -v OUT:/out IMAGE status stl10         # so far; `report stl10` is the report of that

One stage by hand, its folder below RUNS; without /data it takes the synthetic images. To try: budget=tiny.

  docker run --rm $me -v DATA:/data:ro -v RUNS:/runs IMAGE stage=pretrain method=simclr run_dir=mine/pretrain
  docker run --rm $me -v DATA:/data:ro -v RUNS:/runs IMAGE stage=probe source=mine/pretrain run_dir=mine/probe

  stage={stages}     method={methods}     budget={budgets}

--gpus all                       it computes on the GPUs
-v CACHE:/cache                  the next container finds again what takes seconds: synthetic images, compiled code
--read-only --tmpfs /tmp:exec    nothing else is written
--user                           rootless podman: --userns=keep-id instead; rootless docker: --user 0:0

With --name NAME, `docker stop -t 60 NAME` leaves a checkpoint, and the same line goes on from there; after a kill -9 it
first waits a minute, whether the other still writes.
Exit status: 0 complete, 75 interrupted (run the same line again), 2 wrong input, told in a sentence, 1 other failures.
"""


def main(arguments: Sequence[str]) -> int:
    """Does what follows IMAGE on the line. Returns the exit status, unless this process becomes another program."""
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
                raise BadInput("the study's name comes first, like `study stl10`")
            return _study([*rest, *(f"--data={root}" for root in images_of(rest[0]))], arguments)
        if command in ("status", "logs"):
            if not _mounted(OUT):
                raise BadInput(f"nothing is mounted at {OUT}: add -v OUT:{OUT}, the folder of the study")
            return _run_program("jobs", command, *rest, f"--runs={OUT / 'runs'}")
        if command == "data":
            _check_writable(DATA, "DATA")
        if command == "report" and len(rest) == 1 and (OUT / "runs" / rest[0]).is_dir():
            rest = [str(OUT / "runs" / rest[0]), f"--out={OUT / 'reports' / rest[0]}"]
        if command in PROGRAMS:
            return _run_program(*PROGRAMS[command], *rest)
        if command not in ("help", "-h", "--help"):
            known = ("demo", "study", "status", "logs", "help", *PROGRAMS)
            raise BadInput(
                f"the image does not know {command!r}{hint(command, known)}: without arguments it shows its help"
            )
    except BadInput as error:
        print(f"ssl-study: {error}", file=sys.stderr)
        return BAD_INPUT
    budgets = sorted(file.stem for file in (CONF / "budget").glob("*.yaml"))
    print(HELP.format(stages="|".join(STAGES), methods="|".join(methods()), budgets="|".join(budgets)), end="")
    return COMPLETE


def stage_line(words: Sequence[str]) -> list[str]:
    """A stage's command line with the images at /data in it, if there are any. Raises BadInput for a missing mount."""
    given, others = split_literals(words)
    if "run_dir" not in given:
        raise BadInput(f"run_dir must be given, like run_dir=mine/pretrain, a folder below RUNS with -v RUNS:{RUNS}")
    _check_writable(RUNS / given["run_dir"], "RUNS")
    if given.get("source", RANDOM) != RANDOM:
        _check_mounted("source", RUNS / given["source"])
    if root := given.get("data.root"):
        if root != SYNTHETIC:
            _check_mounted("data.root", RUNS / root)
        return list(words)
    studies = [word.partition("=")[2] for word in others if key_of(word) == "study"]
    return [*words, *(f"data.root={root}" for root in images_of(studies[-1] if studies else "demo"))]


def images_of(study: str) -> list[str]:
    """/data, if there are images; nothing for a study that generates its own. Raises BadInput for one that doesn't."""
    if _mounted(DATA):
        if not os.access(DATA, os.R_OK | os.X_OK):
            raise BadInput(f"user {os.getuid()} may not read the folder that is mounted at {DATA}: give another --user")
        if not any(DATA.iterdir()):
            raise BadInput(f"{DATA} is empty: is DATA in -v DATA:{DATA}:ro the folder with the images?")
        return [str(DATA)]
    file = CONF / "study" / f"{study}.yaml"
    if file.is_file() and yaml.safe_load(file.read_text(encoding="utf-8"))["data"]["root"] != SYNTHETIC:
        raise BadInput(f"study {study} needs images, and nothing is mounted at {DATA}: add -v DATA:{DATA}:ro")
    return []


def _study(line: list[str], typed: Sequence[str]) -> int:
    """Runs a study in /out and puts its report where it is seen first."""
    _check_writable(OUT, "OUT")
    line += [f"--runs={OUT / 'runs'}", f"--reports={OUT / 'reports'}"]
    status = jobs(["study", *line], again=f"docker run … IMAGE {shlex.join(typed)}")
    report = OUT / "reports" / line[0] / "report.pdf"
    if status == COMPLETE and report.is_file():
        shutil.copyfile(report, OUT / report.name)
        print(f"{report.name} lies in the folder that is mounted at {OUT}.")
    return status


def _check_writable(folder: Path, name: str) -> None:
    """Raises BadInput unless `folder` lies in a mount that this user can write; `name` stands for its host's folder."""
    folder = folder.resolve()  # what lies beside the mount by way of .. or a link does not lie in it
    beside = folder if folder.parent == Path("/") else folder.parent
    top = next((top for top in (DATA, OUT, RUNS) if top in (folder, *folder.parents)), beside)
    if not _mounted(folder):
        raise BadInput(
            f"{folder} would be lost with the container, since nothing is mounted there: add -v {name}:{top}"
        )
    # not Path.exists, which raises an error where a folder may not be entered
    there = next(place for place in (folder, *folder.parents) if os.access(place, os.F_OK))
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        raise BadInput(f"{top} is mounted read-only, and {folder} is to be written: leave out its :ro")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput(
            f"user {os.getuid()} may not write {there}, which is user {there.stat().st_uid}'s: make the folder before "
            'the engine makes it as root\'s, and add --user "$(id -u):$(id -g)" (rootless podman: --userns=keep-id; '
            "rootless docker: --user 0:0)"
        )


def _check_temporary() -> None:
    if not os.access("/tmp", os.W_OK):  # Python would take the runs' folder for its temporary files
        raise BadInput("/tmp can't be written: beside --read-only give --tmpfs /tmp:exec")


def _check_mounted(key: str, folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise BadInput(f"{key}={folder} is not there in the container: mount the folder that holds it, by -v")


def _mounted(folder: Path) -> bool:
    """Whether `folder` lies in a mount, not in the container's own files."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    # the kernel writes spaces and the like as three octal digits, and all other letters as they are
    points = {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split()[4]) for line in lines}
    return any(str(place) in points for place in (folder, *folder.parents) if place != Path("/"))


def _run_program(module: str, *arguments: str) -> int:
    """Another program of the image, which signals end: not as the container's first process, which they would not."""
    return run_child([sys.executable, "-P", "-m", module, *arguments], signal.SIGTERM)


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
