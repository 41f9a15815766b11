"""`make setup`: installs the locked packages into .venv, and shows the progress.

Imports only the standard library, and runs on an old Python far enough to say that it is too old. Annotations like
`set[str]`, which Python 3.8 can't evaluate, are therefore quoted.
"""

import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

VENV = Path(".venv")
LOG = VENV / "install.log"
STAMP = VENV / "installed"  # has the extras that are installed
PROJECT_FILE, LOCK = Path("pyproject.toml"), Path("requirements.lock")
DEFAULT = "dev"
PARTS = {"dev": {"train", "submit", "report"}}  # the extras that another one contains
FULL_GB, SMALL_GB = 7, 1  # measured: 6.3 GB with torch for CUDA, 0.3 GB with EXTRAS=submit
LOG_LINES = 15  # shown after a failure
LINE_SECONDS = 25.0  # between two lines about the same phase, without a terminal


def entry(arguments: "list[str]") -> int:
    """Runs `main`, and reports an interruption or a file that can't be used in one sentence."""
    try:
        return main(*arguments)
    except KeyboardInterrupt:
        print("\nmake setup: interrupted; running make again resumes", file=sys.stderr)
        return 75
    except OSError as error:
        print(f"make setup: can't use {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def main(extras: str = "") -> int:
    """Installs the project with `extras`, such as `dev` or `train,submit`, beside those that are installed already.

    Without `extras`, installs the extras of the last time again, or `dev`. Returns the exit status.
    """
    if sys.version_info < (3, 11):
        print("make setup needs Python 3.11 or newer; give BASE_PYTHON=python3.11", file=sys.stderr)
        return 2
    known, before = _known(), _installed()
    wanted = set(extras.split(",")) if extras else before or {DEFAULT}
    if not wanted <= known:
        unknown = ", ".join(sorted(wanted - known))
        print(f"make setup: there is no extra {unknown!r}: choose among {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    if wanted <= _with_parts(before) and _is_newest(STAMP):
        print(f"{VENV} has {', '.join(sorted(wanted))} already. To install again, remove {STAMP} first.")
        return 0
    together = wanted | before
    large = "train" in _with_parts(together) - _with_parts(before)
    needed, free = FULL_GB if large else SMALL_GB, shutil.disk_usage(".").free / 1e9
    retried = VENV.exists() and not before  # a part of the space is used already
    if free < needed and not retried:
        print(f"make setup needs {needed} GB of disk space, and {Path.cwd()} has {free:.1f} GB", file=sys.stderr)
        return 2
    took = "two to ten minutes, most of it for downloading 3 GB" if large else "half a minute"
    print(
        f"Installing the locked packages into {VENV}, once: {took}. Needs {needed} GB of disk; {free:.0f} GB are free."
    )
    if not before or not (VENV / "bin/python").exists():
        # symbolic links, because a copied interpreter may not find its shared library
        venv.create(VENV, with_pip=True, symlinks=True)
    names = ",".join(sorted(together - {part for extra in together for part in PARTS.get(extra, ())}))
    status = _pip(names)
    if status:
        print("\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]), file=sys.stderr)
        print(f"make setup: pip failed; its output is in {LOG}. Running make again retries.", file=sys.stderr)
        return status
    STAMP.write_text(f"{names}\n", encoding="utf-8")
    return 0


def _known() -> "set[str]":
    """The extras that pyproject.toml has."""
    import tomllib  # noqa: PLC0415 # Python 3.10 lacks it, and must get as far as the message about its version

    return set(tomllib.loads(PROJECT_FILE.read_text(encoding="utf-8"))["project"]["optional-dependencies"])


def _installed() -> "set[str]":
    """The extras that are installed, as far as pyproject.toml still has them. Those of an empty stamp are `dev`."""
    try:
        return (set(STAMP.read_text(encoding="utf-8").strip().split(",")) - {""} or {DEFAULT}) & _known()
    except FileNotFoundError:
        return set()


def _with_parts(extras: "set[str]") -> "set[str]":
    return extras.union(*(PARTS.get(extra, set()) for extra in extras))


def _is_newest(file: Path) -> bool:
    """Whether `file` is not older than the files that say what to install; the Makefile has the same condition."""
    return all(file.stat().st_mtime_ns >= source.stat().st_mtime_ns for source in (PROJECT_FILE, LOCK))


def _pip(extras: str) -> int:
    """Runs pip, with its output in LOG. Returns its exit status."""
    line = ["install", "--constraint", str(LOCK), "--progress-bar", "off", "--editable", f".[{extras}]"]
    display = _Display()
    with LOG.open("wb") as log:
        pip = subprocess.Popen([VENV / "bin/python", "-m", "pip", *line], stdout=log, stderr=subprocess.STDOUT)
        try:
            while pip.poll() is None:
                display.show(_progress(LOG.read_text(encoding="utf-8", errors="replace")))
                time.sleep(0.5)
        except KeyboardInterrupt:
            pip.wait()  # the terminal sends the signal to pip, too
            raise
    display.show("installed" if pip.returncode == 0 else "stopped")
    print(flush=True)
    return pip.returncode


def _progress(output: str) -> str:
    """What pip is doing, in words. output: pip's output until now."""
    _, installing, names = output.partition("Installing collected packages: ")
    if installing:
        total = len(names.partition("\n")[0].split(","))
        done = sum(1 for _ in VENV.glob("lib/python*/site-packages/*.dist-info"))
        return f"installing {min(done, total)} of {total} packages"
    *_, last = [None, *re.finditer(r"^(?:Collecting|Processing) (?:\S*/)?([\w.]+)", output, re.MULTILINE)]
    if last is None:
        return "preparing"
    size = re.search(r"Downloading \S+ \(([\d.]+ [MG]B)\)", output[last.end() :])
    count = len(re.findall(r"^(?:Collecting|Processing) ", output, re.MULTILINE))
    return f"downloading package {count}: {last[1]}{f' ({size[1]})' if size else ''}"


class _Display:
    """Shows what is being done, with the elapsed time: on a terminal in one line, elsewhere in a line now and then."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._phase, self._due = "", 0.0

    def show(self, text: str) -> None:
        """Shows `text`, whose first word is the phase; without a terminal once a phase and every LINE_SECONDS."""
        now, phase = time.monotonic(), text.partition(" ")[0]
        minutes, seconds = divmod(round(now - self._started), 60)
        line = f"{minutes}:{seconds:02d} {text}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line}"[: shutil.get_terminal_size().columns + 3], end="", flush=True)
        elif phase != self._phase or now >= self._due:
            self._phase, self._due = phase, now + LINE_SECONDS
            print(line, flush=True)


if __name__ == "__main__":
    sys.exit(entry(sys.argv[1:]))
