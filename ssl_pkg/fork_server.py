"""Runs stages as forks of one process that has imported PyTorch: `python -m ssl_pkg.fork_server LISTENER`.

Importing PyTorch, torchvision, SciPy and openTSNE takes 5 s of CPU time. A study has dozens of runs, many of which
compute for less than that. A fork shares the imported modules, and then runs the stage as `python -m ssl_pkg` does. A
list of processes shows the server's command line for each stage.

LISTENER is the number of an inherited file descriptor, a listening Unix socket of type SOCK_SEQPACKET. Each connection
starts one stage:

    client -> server   a `Request` as JSON, with the file descriptor of the log
    server -> client   the process id, with a pidfd of the process
    server -> client   the return code, as in subprocess.Popen, when the process has ended

A stage receives SIGTERM when its client or the server dies. When standard input is closed, the server deletes the
socket, and it ends when no stage is running. It prints the errors of stages that it could not start.
"""

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Final, TypedDict

from ssl_pkg.__main__ import prepare_imports, run_and_exit
from ssl_pkg.catalogue import STAGES
from ssl_pkg.errors import FAULT, INTERRUPTED
from ssl_pkg.hardware.memory import restart_with_jemalloc
from ssl_pkg.messages.streams import use_utf8
from ssl_pkg.processes import end_with_parent
from ssl_pkg.run.signals import SIGNALS

MAX_REQUEST: Final = 1 << 20  # bytes; the kernel's limit of one message is lower
REQUEST_TIMEOUT: Final = 5.0  # seconds for a client to send its request after it has connected
_KEPT: Final = ("LD_PRELOAD", "MALLOC_CONF")  # read only when a program starts, so a stage has the server's values


class Request(TypedDict):
    """What a client asks for."""

    arguments: list[str]  # of `python -m ssl_pkg`
    environment: dict[str, str]


class Server:
    """Accepts connections on a listening socket. Raises OSError if the kernel has no pidfd (Linux before 5.3)."""

    def __init__(self, listener: socket.socket) -> None:
        own = os.pidfd_open(os.getpid())
        signal.pidfd_send_signal(own, 0)  # clients need it
        os.close(own)
        self._listener = listener
        self._clients: dict[int, socket.socket] = {}  # by the process id of the stage
        self._wake_up, self._child_ended = os.pipe()
        for end in (self._wake_up, self._child_ended):
            os.set_blocking(end, False)
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Serves until standard input is closed and the last stage has ended."""
        signal.set_wakeup_fd(self._child_ended, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for readable in (self._listener, self._wake_up, sys.stdin):
            self._selector.register(readable, selectors.EVENT_READ)
        closing = False
        while not closing or self._clients:
            ready = [key for key, _ in self._selector.select()]
            if not closing and any(key.fileobj is sys.stdin for key in ready):
                closing = True
                self._close()
            for key in ready:
                if key.fileobj is self._listener and not closing:
                    self._accept()
                elif key.fileobj == self._wake_up:
                    os.read(self._wake_up, 4096)
                elif key.data is not None:  # the client has died, so nothing else would stop the stage
                    self._selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGTERM)
            self._report_ended()

    def _close(self) -> None:
        """Ends the acceptance of connections, and deletes the socket, which has a folder of its own."""
        self._selector.unregister(sys.stdin)
        self._selector.unregister(self._listener)
        path = Path(self._listener.getsockname())
        self._listener.close()
        with suppress(OSError):
            path.unlink()
            path.parent.rmdir()

    def _accept(self) -> None:
        """Starts the stage that a client asks for. If that fails, the client sees the end of the connection."""
        client, _ = self._listener.accept()
        client.settimeout(REQUEST_TIMEOUT)
        descriptors: list[int] = []
        try:
            content, descriptors, _, _ = socket.recv_fds(client, MAX_REQUEST, 1)
            request: Request = json.loads(content)
            self._start(client, descriptors[0], request)
        except (OSError, ValueError, LookupError):  # no process can be created, or the client has ended
            traceback.print_exc()
            client.close()
        for descriptor in descriptors:
            os.close(descriptor)

    def _start(self, client: socket.socket, log: int, request: Request) -> None:
        server = os.getpid()
        process = os.fork()
        if process == 0:
            try:
                client.close()
                self._become_stage(log, request["environment"], server)
                run_and_exit(request["arguments"])
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:  # a fork must never return to the server's loop
                os._exit(FAULT)
        try:
            pidfd = os.pidfd_open(process)
        except OSError:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise
        with suppress(OSError):  # the client may have died
            socket.send_fds(client, [str(process).encode()], [pidfd])
        os.close(pidfd)
        self._clients[process] = client
        self._selector.register(client, selectors.EVENT_READ, process)

    def _become_stage(self, log: int, environment: dict[str, str], server: int) -> None:
        """Makes this fork a process like one that has been started by its own command line."""
        os.setsid()
        if not end_with_parent(server, signal.SIGTERM):  # the server has died before
            os._exit(INTERRUPTED)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for open_socket in (self._listener, *self._clients.values()):
            open_socket.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        for descriptor in (self._wake_up, self._child_ended, nothing, log):
            os.close(descriptor)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        os.environ.clear()
        os.environ.update(environment | kept)

    def _report_ended(self) -> None:
        for process in list(self._clients):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                with self._clients.pop(process) as client, suppress(OSError, KeyError):  # the client may have died
                    self._selector.unregister(client)
                    client.send(str(os.waitstatus_to_exitcode(status)).encode())


def import_stages() -> None:
    """Imports all that stages import, so that their processes share it, and reads what describes this code.

    Raises RuntimeError if an import has initialized CUDA, because a fork could not use it.
    """
    prepare_imports()
    for name in ("command", *(f"stages.{stage}" for stage in STAGES)):
        importlib.import_module(f"ssl_pkg.{name}")
    provenance = importlib.import_module("ssl_pkg.run.provenance")
    cpu_views = importlib.import_module("ssl_pkg.augment.cpu")
    # Cached, because the files may be edited while the server runs, and its forks don't have the new code.
    provenance.commit_at_start()
    provenance.versions_at_start()
    cpu_views.version()
    _refuse_initialized_cuda()
    gc.collect()
    gc.freeze()  # the garbage collector of a fork would write to, and so copy, the pages of all objects


def _refuse_initialized_cuda() -> None:
    process = os.fork()
    if process == 0:  # only a fork knows, because the driver can be initialized without torch.cuda.init()
        os._exit(int(importlib.import_module("torch").cuda._is_in_bad_fork()))
    if os.waitpid(process, 0)[1]:
        raise RuntimeError("an import has initialized CUDA")


if __name__ == "__main__":
    use_utf8()
    restart_with_jemalloc(SIGNALS)
    # A site or a service manager may signal every process of a study. Each stage unblocks and handles the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    server = Server(socket.socket(fileno=int(sys.argv[1])))
    import_stages()
    server.serve()
    os._exit(0)  # oneDNN sometimes crashes when its cache of primitives is destroyed at exit
