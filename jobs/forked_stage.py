"""Client of `ssl_pkg.fork_server`, which starts stages without importing PyTorch anew for each."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

_SERVER: Final = (sys.executable, "-P", "-m", "ssl_pkg.fork_server")


@contextmanager
def fork_server(environment: Mapping[str, str | None]) -> Iterator[Path | None]:
    """Context manager with a server, whose socket it yields; None if this machine can't have one.

    environment: as in `StageProcess`. Threads of numerical libraries are set by it, because these are already loaded
    when a stage starts.
    """
    changed = {**os.environ, **environment}
    with tempfile.TemporaryDirectory(prefix="ssl-study-") as folder, socket.socket(
        socket.AF_UNIX, socket.SOCK_SEQPACKET
    ) as listener:  # fmt: skip
        path = Path(folder, "fork_server")
        try:
            listener.bind(str(path))
            listener.listen()
        except OSError:  # TMPDIR is too long for the name of a socket, or its file system has no sockets
            yield None
            return
        with subprocess.Popen(
            [*_SERVER, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # a stage that the server can't start is started on its own, and says why
            env={name: value for name, value in changed.items() if value is not None},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        ) as server:
            listener.close()
            try:
                yield path
            finally:
                assert server.stdin
                server.stdin.close()
                server.wait()


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
        """The return code. Raises subprocess.TimeoutExpired if the process has not ended after `timeout` seconds."""
        if not select.select([self._pidfd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        code = self._connection.recv(16)
        return int(code) if code else -signal.SIGTERM  # which the server's death has sent to the stage

    def send_signal(self, number: int) -> None:
        """Sends a signal to the process, if it has not ended."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, number)


@dataclass(frozen=True)
class Fork:
    """How a fork server is asked for a stage. arguments: those of `python -m ssl_pkg`."""

    server: Path
    arguments: tuple[str, ...]

    def start(self, log: BinaryIO, environment: Mapping[str, str]) -> ForkedStage | None:
        """Starts the stage, whose output is appended to `log`; None if the server can't start it."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"arguments": self.arguments, "environment": dict(environment)}
        try:
            connection.connect(str(self.server))
            socket.send_fds(connection, [json.dumps(request).encode()], [log.fileno()])
            pid, descriptors, _, _ = socket.recv_fds(connection, 16, 1)
        except OSError:
            pid, descriptors = b"", []
        if not descriptors:
            connection.close()
            return None
        return ForkedStage(connection, int(pid), descriptors[0])
