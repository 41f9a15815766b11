"""A Docker engine for the tests: the machine's engine if it answers, otherwise one that this module starts.

    python tests/container/engine.py up     # prints a shell command, after which `docker` and `make image` use it
    python tests/container/engine.py down [--purge]

The state of a started engine is in one folder: $CONTAINER_ENGINE, or a folder below /var/tmp for each checkout. If no
registry can be reached, the Dockerfile's base image is built from Debian's packages. Starting an engine needs root, and
the Debian packages docker.io and mmdebstrap.
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
# as in the official image: Python, its headers for torch.compile, and the certificates for apt and pip
PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip,libpython3.11-dev"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # with the authority of a proxy, if there is one


class EngineError(Exception):
    """There is no engine. The text is one sentence."""


class Engine:
    """A running engine. `environment` has its address for the docker client."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.environment = dict(os.environ)
        self.started = False  # whether this object has started the engine
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def own(self) -> bool:
        """Whether the engine was started by this module. Such an engine supports only the host's network."""
        return self.environment.get("DOCKER_HOST") == f"unix://{self.folder}/docker.sock"

    def up(self) -> "Engine":
        """Finds or starts an engine, and pulls or builds the base image. Raises EngineError."""
        if shutil.which("docker") is None:
            raise EngineError("docker not found: apt-get install docker.io mmdebstrap")
        if not self._answers():
            self.environment["DOCKER_HOST"] = f"unix://{self.folder}/docker.sock"
            if not self._answers():
                self._start()
        if self._quiet("image", "inspect", BASE) and self._quiet("pull", BASE):
            self._import_base()
        return self

    def down(self, purge: bool = False) -> None:
        """Ends an engine that this module has started. purge: also removes its images."""
        file = self.folder / "dockerd.pid"
        if file.exists():
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            _until(lambda: not file.exists(), 60, f"dockerd, process {pid}, did not end")
        if purge:
            for mount in (self.folder / "exec" / "netns").glob("*"):
                subprocess.run(["umount", mount], check=False)
            shutil.rmtree(self.folder)

    def docker(self, *line: str | Path, **more: object) -> "subprocess.CompletedProcess[str]":
        """Runs a docker command and waits for its end."""
        return subprocess.run(
            ["docker", *line], env=self.environment, capture_output=True, text=True, check=False, **more
        )

    def build(self, image: str) -> str:
        """Runs `make image` with IMAGE=image. Returns its output. Raises EngineError."""
        with _index() as index:
            options = "--network host" if self.own else ""
            done = subprocess.run(
                ["make", "--no-print-directory", "image", f"IMAGE={image}", f"BUILD_OPTIONS={options}"], cwd=PROJECT,
                env=self.environment | index, capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            raise EngineError(f"make image failed: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout + done.stderr

    def _answers(self) -> bool:
        return self._quiet("version") == 0

    def _quiet(self, *line: str) -> int:
        return self.docker(*line).returncode

    def _start(self) -> None:
        if os.getuid() != 0 or shutil.which("dockerd") is None:
            raise EngineError("no docker engine answers, and starting one needs root and dockerd (Debian: docker.io)")
        with (self.folder / "dockerd.log").open("ab") as log:
            options = {
                "host": self.environment["DOCKER_HOST"], "data-root": self.folder / "data",
                "exec-root": self.folder / "exec", "pidfile": self.folder / "dockerd.pid",
                "bridge": "none", "iptables": "false",
            }  # fmt: skip
            subprocess.run(  # not as a child, because a later process may end it
                ["setsid", "--fork", "dockerd", *(f"--{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
            )  # fmt: skip
        self.started = True
        _until(self._answers, 60, f"dockerd did not answer (see {self.folder}/dockerd.log)")

    def _import_base(self) -> None:
        """Builds a replacement of the registry's image: Debian with its own Python, at the official image's paths."""
        if shutil.which("mmdebstrap") is None:
            raise EngineError(f"{BASE} can't be pulled, and building it needs mmdebstrap: apt-get install mmdebstrap")
        print(f"{BASE} can't be pulled: building it from Debian's packages, which takes a minute", file=sys.stderr)
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
                raise EngineError(f"mmdebstrap can't build {BASE}: {done.stderr[-1000:]}")
            path = "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            done = self.docker("import", "-c", path, "-c", "ENV LANG=C.UTF-8", tar, BASE)
            if done.returncode:
                raise EngineError(f"{BASE} can't be imported: {done.stderr}")


@contextmanager
def _index() -> Iterator[dict[str, str]]:
    """Serves the local folders in pip's configuration by HTTP, so that pip can read them inside a build.

    The port is always the same, because the address is an argument of the build, and a change would invalidate its
    cache.
    """
    configured = subprocess.run(
        ["pip", "config", "get", "global.extra-index-url"], capture_output=True, text=True, check=False
    )
    folders = [urlparse(word).path for word in configured.stdout.split() if word.startswith("file://")]
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


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise EngineError(f"{what} within {seconds:.0f} s")
        time.sleep(0.1)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["up"]:
            print(f"export DOCKER_HOST={Engine().up().environment.get('DOCKER_HOST', '')}")
        else:
            Engine().down(purge="--purge" in sys.argv)
    except EngineError as error:
        sys.exit(f"engine: {error}")
