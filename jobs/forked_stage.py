"""Client of `ssl_pkg.fork_server`, which starts stages without importing PyTorch anew for each."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

END_REPORT_TIMEOUT: Final = 10.0  # seconds for the server to report the end of a stage
_SERVER: Final = (sys.executable, "-P", "-m", "ssl_pkg.fork_server")


@contextmanager
def fork_server(environment: Mapping[str, str | None], log: Path) -> Iterator[Path | None]:
    """Starts a fork server, and yields the path of its socket, or None if it could not be started.

    environment: changes of variables, as in `StageProcess`. Must set OMP_NUM_THREADS, because numerical libraries read
    it when they are loaded, which is before a stage starts. log: a file for the server's own errors.
    """
    path: Path | None = None
    with ExitStack() as stack:
        with suppress(OSError):  # TMPDIR is full, has no sockets, or has a name that is too long for a socket's
            temporary = tempfile.TemporaryDirectory(prefix="ssl-study-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
            server = stack.enter_context(_start(folder / "socket", environment, log))
            # If an exception ends the study, this makes the running stages write checkpoints and stop.
            stack.callback(server.kill)
            path = folder / "socket"
        yield path


def _start(path: Path, environment: Mapping[str, str | None], log: Path) -> "subprocess.Popen[bytes]":
    changed = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, log.open("ab") as errors:
        listener.bind(str(path))
        listener.listen()
        return subprocess.Popen(
            [*_SERVER, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=errors,
            stderr=errors,
            env={name: value for name, value in changed.items() if value is not None},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )


class ForkedStage:
    """A running stage that a fork server has started, with the interface of subprocess.Popen."""

    def __init__(self, connection: socket.socket, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._connection = connection
        self._pidfd = pidfd

    def __enter__(self) -> "ForkedStage":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._pidfd)
        self._pidfd = -1
        self._connection.close()

    def wait(self, timeout: float | None = None) -> int:
        """The return code.

        Raises subprocess.TimeoutExpired if the process has not ended after `timeout` seconds, and ServerLost if the
        process has ended but the server does not say how, because it was killed.
        """
        if not self._ended_within(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        self._connection.settimeout(END_REPORT_TIMEOUT)
        code = b""
        with suppress(OSError):
            code = self._connection.recv(16)
        if not code:
            raise ServerLost
        return int(code)

    def _ended_within(self, timeout: float | None) -> bool:
        return bool(select.select([self._pidfd], [], [], timeout)[0])

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process, if it has not ended."""
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill_group(self) -> None:
        """Kills the process and its children, if it has not ended."""
        if not self._ended_within(0):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class ServerLost(Exception):
    """A forked stage has ended, and its exit status is unknown. It received SIGTERM when the server died."""


@dataclass(frozen=True)
class Fork:
    """How a fork server is asked for a stage. arguments: those of `python -m ssl_pkg`."""

    server: Path
    arguments: tuple[str, ...]

    def start(self, log: BinaryIO, environment: Mapping[str, str], stop: Callable[[], bool]) -> ForkedStage | None:
        """Starts the stage, whose output is appended to `log`. Waits for a server that still imports.

        Returns None if the server can't start the stage, or if `stop` returns true before it has.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"arguments": self.arguments, "environment": dict(environment)}
        pid, descriptors = b"", list[int]()
        try:
            connection.connect(str(self.server))
            socket.send_fds(connection, [json.dumps(request).encode()], [log.fileno()])
            while not select.select([connection], [], [], 1.0)[0] and not stop():
                pass
            connection.setblocking(False)
            pid, descriptors, _, _ = socket.recv_fds(connection, 16, 1)
        except OSError:
            pass
        if not descriptors:
            connection.close()
            return None
        return ForkedStage(connection, int(pid), descriptors[0])
