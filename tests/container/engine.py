"""A Docker engine for the tests: the machine's own where one answers, else one of this project's own, started here.

    python tests/container/engine.py up     # prints the line that points `docker` and `make image` at it
    python tests/container/engine.py down [--purge]

All its state lies in one folder ($CONTAINER_ENGINE, or one of this checkout's own below /var/tmp), so that two of them
don't meet. Where no registry can be reached, the Dockerfile's base image is made from Debian's packages. Needs root,
and Debian's docker.io and mmdebstrap.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

PROJECT = Path(__file__).resolve().parent.parent.parent
TOKEN = hashlib.sha256(str(PROJECT).encode()).hexdigest()[:8]  # of this checkout
FOLDER = Path(os.environ.get("CONTAINER_ENGINE", f"/var/tmp/ssl-study-engine-{TOKEN}"))
BASE = next(line.split()[1] for line in (PROJECT / "Dockerfile").read_text().splitlines() if line.startswith("FROM "))
# what the official image has: Python with its headers, which torch.compile needs, and whom apt and pip trust
PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip,libpython3.11-dev"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # this machine may stand behind a proxy with one of its own


class NotPossible(Exception):
    """Why there is no engine, in one sentence."""


class Engine:
    """An engine that answers; `environment` points the docker client at it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.environment = dict(os.environ)
        self.started = False  # by this object
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def own(self) -> bool:
        """Whether it is one that was started here, which knows no network but the host's."""
        return self.environment.get("DOCKER_HOST") == f"unix://{self.folder}/docker.sock"

    def up(self) -> "Engine":
        """Finds one or starts one, and sees to the base image. Raises NotPossible."""
        if shutil.which("docker") is None:
            raise NotPossible("there is no docker here: apt-get install docker.io mmdebstrap")
        if not self._answers():
            self.environment["DOCKER_HOST"] = f"unix://{self.folder}/docker.sock"
            if not self._answers():
                self._start()
        if self._quiet("image", "inspect", BASE) and self._quiet("pull", BASE):
            self._import_base()
        return self

    def down(self, purge: bool = False) -> None:
        """Ends an engine of our own; with `purge` removes its images too."""
        file = self.folder / "dockerd.pid"
        if file.exists():
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            _until(lambda: not file.exists(), 60, f"dockerd, process {pid}, ends")
        if purge:
            for mount in (self.folder / "exec" / "netns").glob("*"):
                subprocess.run(["umount", mount], check=False)
            shutil.rmtree(self.folder)

    def docker(self, *line: str | Path, **more: object) -> "subprocess.CompletedProcess[str]":
        """Runs a docker command to its end."""
        return subprocess.run(
            ["docker", *line], env=self.environment, capture_output=True, text=True, check=False, **more
        )

    def build(self, image: str) -> str:
        """`make image` with IMAGE=image; returns what it printed."""
        with _index() as index:
            options = "--network host" if self.own else ""
            done = subprocess.run(
                ["make", "--no-print-directory", "image", f"IMAGE={image}", f"BUILD_OPTIONS={options}"], cwd=PROJECT,
                env=self.environment | index, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise NotPossible(f"make image failed: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout + done.stderr

    def _answers(self) -> bool:
        return self._quiet("version") == 0

    def _quiet(self, *line: str) -> int:
        return self.docker(*line).returncode

    def _start(self) -> None:
        if os.getuid() != 0 or shutil.which("dockerd") is None:
            raise NotPossible("no docker engine answers, and to start one takes root and dockerd (Debian: docker.io)")
        with (self.folder / "dockerd.log").open("ab") as log:
            options = {
                "host": self.environment["DOCKER_HOST"], "data-root": self.folder / "data",
                "exec-root": self.folder / "exec", "pidfile": self.folder / "dockerd.pid",
                "bridge": "none", "iptables": "false",
            }  # fmt: skip
            subprocess.run(  # no child of this process: it is ended by its number, perhaps by a later one
                ["setsid", "--fork", "dockerd", *(f"--{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
            )  # fmt: skip
        self.started = True
        _until(self._answers, 60, f"dockerd answers: see {self.folder}/dockerd.log")

    def _import_base(self) -> None:
        """Stands in for the registry's image: Debian with its own Python, where the official one has it."""
        if shutil.which("mmdebstrap") is None:
            raise NotPossible(f"{BASE} can't be pulled, and to make it takes mmdebstrap: apt-get install mmdebstrap")
        print(f"{BASE} can't be pulled: making it from Debian's packages, a minute", file=sys.stderr)
        links = "for name in python python3 python3.11; do ln -sf /usr/bin/python3.11 $1/usr/local/bin/$name; done"
        sources = f"rm -f $1/etc/apt/sources.list $1/etc/resolv.conf; cp {SOURCES} $1/etc/apt/sources.list.d"
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            tar = Path(scratch) / "base.tar"
            done = subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}",
                 "--aptopt=Acquire::Check-Valid-Until false", "--dpkgopt=path-exclude=/usr/share/man/*",
                 "--dpkgopt=path-exclude=/usr/share/doc/*", f"--customize-hook={links}; {sources}",
                 f"--customize-hook=cp {AUTHORITIES} $1{AUTHORITIES}",
                 "bookworm", tar, SOURCES], capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise NotPossible(f"mmdebstrap can't make {BASE}: {done.stderr[-1000:]}")
            path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            done = self.docker("import", "-c", path, "-c", "ENV LANG=C.UTF-8", tar, BASE)
            if done.returncode:
                raise NotPossible(f"{BASE} can't be imported: {done.stderr}")


@contextmanager
def _index() -> Iterator[dict[str, str]]:
    """Serves the folders that pip is told to look into on this machine, so that it finds them from inside a build too.

    The port stays the same: the address is an argument of the build, and another one would make it start anew.
    """
    asked = subprocess.run(
        ["pip", "config", "get", "global.extra-index-url"], capture_output=True, text=True, check=False
    )
    folders = [urlparse(word).path for word in asked.stdout.split() if word.startswith("file://")]
    if not folders:
        yield {}
        return
    parent = os.path.commonpath(folders)
    handler = partial(_Silent, directory=parent)
    with ThreadingHTTPServer(("127.0.0.1", 20000 + int(TOKEN, 16) % 10000), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield {"PIP_EXTRA_INDEX_URL": " ".join(f"{address}/{os.path.relpath(folder, parent)}" for folder in folders)}
        server.shutdown()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def _until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise NotPossible(f"it did not come about within {seconds:.0f} s that {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["up"]:
            print(f"export DOCKER_HOST={Engine().up().environment.get('DOCKER_HOST', '')}")
        else:
            Engine().down(purge="--purge" in sys.argv)
    except NotPossible as error:
        sys.exit(f"engine: {error}")
