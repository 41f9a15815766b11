"""The image, built once, and its containers, started as a user would."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine import TOKEN, Engine, EngineError
from filelock import FileLock

from ssl_pkg.data.synthetic import Sizes, generate

USER = "4321:4321"  # a user that the image does not have
NAME = f"ssl-study-test-{TOKEN}"


@dataclass(frozen=True)
class Image:
    """The image under test."""

    engine: Engine
    name: str = NAME

    def line(self, *words: str, mounts: dict[str, Path] | None = None, options: tuple[str, ...] = ()) -> list[str]:
        """The arguments of docker. mounts: paths in the container, with `:ro` for read-only mounts -> folders."""
        volumes = [word for path, folder in (mounts or {}).items() for word in ("-v", f"{folder}:{path}")]
        safe = ("--read-only", "--tmpfs", "/tmp:exec", "--user", USER, "--network", "none")
        return ["run", *safe, *volumes, *options, self.name, *words]

    def run(
        self, *words: str, mounts: dict[str, Path] | None = None, options: tuple[str, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a container and waits for its end."""
        return self.engine.docker(*self.line(*words, mounts=mounts, options=("--rm", *options)))

    def start(self, *words: str, mounts: dict[str, Path]) -> "Container":
        """Starts a container in the background."""
        line = self.line(*words, mounts=mounts, options=("--detach",))
        done = self.engine.docker(*line)
        assert done.returncode == 0, done.stderr
        return Container(self.engine, done.stdout.strip())


@dataclass(frozen=True)
class Container:
    """A container that was started in the background."""

    engine: Engine
    id: str

    def signal(self, name: str) -> None:
        self.engine.docker("kill", "--signal", name, self.id)

    def ended(self) -> tuple[int, str]:
        """Waits for the container's end and removes it. Returns its exit status and its logs."""
        status = int(self.engine.docker("wait", self.id, timeout=120).stdout)
        logs = self.engine.docker("logs", self.id)
        self.engine.docker("rm", self.id)
        return status, logs.stdout + logs.stderr


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Skips without an engine, except in CI. A second session with the same engine waits."""
    engine = Engine()
    with FileLock(engine.folder / "session", timeout=1800):
        try:
            engine.up()
        except EngineError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        try:
            engine.build(NAME)
            yield Image(engine)
        finally:
            if engine.started:
                engine.down()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few images in the layout of STL-10 and CIFAR-10."""
    root = tmp_path_factory.mktemp("data") / "synthetic"
    generate(root, Sizes(train_per_class=16, test_per_class=5, unlabeled=160, ood_per_class=3))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is writable for USER."""
    folder = tmp_path / "runs"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def until(holds: Callable[[], object], seconds: float, what: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what()}"
        time.sleep(0.1)
