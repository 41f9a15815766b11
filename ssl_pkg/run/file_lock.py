"""A lock file for any file system, with or without flock. Imports no torch.

filelock's FileLock needs flock, which Lustre and some home directories lack. Its SoftFileLock never frees the lock of a
killed process on file systems that can't swap two names atomically, such as NFS and Lustre.
"""

import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ssl_pkg.errors import Busy
from ssl_pkg.processes import start_time_of

HEARTBEAT_SECONDS: Final = 2.0
STALE_SECONDS: Final = 60.0  # without a heartbeat, after which a run or a holder on another host counts as dead
_POLL_SECONDS: Final = 0.5


class FileLock:
    """A file that exists while a process holds the lock, and that names the holder.

    The holder calls `heartbeat` every HEARTBEAT_SECONDS, which sets the file's modification time. Another process
    acquires the lock of a dead holder: at once if the holder ran on this host, otherwise after STALE_SECONDS without a
    heartbeat. Ages are differences between times of the file server, because the clocks of two hosts differ.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.draft_prefix = f".{path.name.lstrip('.')}."  # of short-lived files beside `path`
        self._token = secrets.token_hex(8)

    def acquire(self) -> None:
        """Creates the file. A requeued SLURM job takes the lock over from its own earlier start.

        Raises Busy if a living process holds the lock, after up to STALE_SECONDS if that process is on another host.
        Raises OSError if the file can't be written, FileNotFoundError if its folder is missing.
        """
        process = {"pid": os.getpid(), "start_time": start_time_of(os.getpid())}
        us = _pid_namespace() | _slurm_job() | process | {"token": self._token}
        while not self._create(json.dumps(us)):
            holder = _read(self.path)
            if holder is None:
                continue
            if _is_earlier_start(holder, us):
                self._replace(json.dumps(us))
                return
            if self._is_alive(holder):
                raise Busy(f"{self.path.parent} is in use by {describe(holder)}: wait until it ends, or stop it")
            self._remove_stale(holder)

    def release(self) -> None:
        """Removes the file, unless another process has taken the lock over."""
        if self.is_held():
            self.path.unlink(missing_ok=True)

    def holder(self) -> dict[str, Any]:
        """What the file says of its holder; empty if there is no file, or if it is damaged or can't be read."""
        return _read(self.path) or {}

    def is_held(self) -> bool:
        """Whether this object still holds the lock. Another process may have taken it over during a suspension."""
        return self.holder().get("token") == self._token

    def is_lost(self) -> bool:
        """Whether the file is gone or names another holder. Raises OSError if the file can't be read twice in a row,
        because a network file system can fail at a single read."""
        return not self.is_held() and (_content(self.path) or {}).get("token") != self._token

    def heartbeat(self) -> None:
        """Sets the file's modification time to the file server's now."""
        with contextlib.suppress(OSError):
            try:
                os.utime(self.path)
            except PermissionError:  # some file systems refuse utime; writing the same bytes sets the time as well
                with self.path.open("r+b") as file:
                    content = file.read()
                    if self._token.encode() in content:  # not if another process has taken the lock over
                        file.seek(0)
                        file.write(content)

    def _create(self, content: str) -> bool:
        """Creates the file and its content in one step, as a hard link to a complete file. False if it exists."""
        with self._draft(content) as draft:
            try:
                os.link(draft, self.path)
            except FileExistsError:
                return self.is_held()  # over NFS a link can succeed although its reply is lost
            except FileNotFoundError:
                raise
            except OSError:  # FAT, SMB and many FUSE file systems have no hard links
                return self._create_exclusively(content)
        return True

    def _create_exclusively(self, content: str) -> bool:
        """Creates the file, then writes its content. A process that reads it in between treats the holder as unknown,
        and waits."""
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            return self.is_held()
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _replace(self, content: str) -> None:
        """Replaces the holder's file by this process's, in one step. The old holder finds out before its next write."""
        with self._draft(content) as draft:
            draft.replace(self.path)

    @contextlib.contextmanager
    def _draft(self, content: str) -> Iterator[Path]:
        """Context manager that holds a temporary file with this content, beside the lock file."""
        draft = self.path.with_name(f"{self.draft_prefix}{self._token}")
        try:
            draft.write_text(content, encoding="utf-8")
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _is_alive(self, holder: dict[str, Any]) -> bool:
        """Looks the process up if it is in this PID namespace, otherwise waits for a heartbeat.

        Also waits if the file lacks the process's start time, which only /proc gives.
        """
        started = holder.get("start_time")
        if started is not None and {key: holder.get(key) for key in _pid_namespace()} == _pid_namespace():
            return start_time_of(int(holder.get("pid", -1))) == str(started)
        last, announced = self._last_heartbeat(), False
        while last is not None and self._server_time() - last < STALE_SECONDS:
            time.sleep(_POLL_SECONDS)
            if (_read(self.path) or {}) != holder:
                return False  # another holder, or a holder whose content was not complete yet: look again
            if self._last_heartbeat() != last:
                return True
            if not announced and self._server_time() - last > STALE_SECONDS / 4:  # several heartbeats are missing
                announced = True
                print(
                    f"ssl_pkg: {self.path.parent} is locked by {describe(holder)}: this process takes it over after "
                    f"{STALE_SECONDS:.0f} s without a heartbeat",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
        return False

    def _last_heartbeat(self) -> float | None:
        """The file's modification time. Opens the file, because NFS answers from its cache until a file is opened."""
        try:
            with self.path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None

    def _server_time(self) -> float:
        """The file server's current time, as the modification time of a new file."""
        with self._draft("") as draft:
            return draft.stat().st_mtime

    def _remove_stale(self, dead: dict[str, Any]) -> None:
        """Removes a dead holder's file, but never the file of a process that has replaced it meanwhile.

        Only one process at a time may remove it: the creator of a claim file that is named after the dead holder.
        """
        name = hashlib.sha256(repr(dead).encode(errors="replace")).hexdigest()[:16]
        claim = self.path.with_name(f"{self.draft_prefix}{name}.claim")
        claims = [claim]
        while not _created(claims[-1]):
            time.sleep(0.05)
            try:
                age = self._server_time() - claims[-1].stat().st_mtime
            except FileNotFoundError:
                return
            if age <= STALE_SECONDS:
                return
            # Its creator died. It is not removed, because another process may remove and create it at this moment.
            claims.append(claim.with_name(f"{claims[-1].name}+"))
        if _read(self.path) == dead:
            self.path.unlink(missing_ok=True)
        for each in claims:
            each.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(file: Path, timeout: float = 0.0) -> Iterator[None]:
    """Context manager that holds the lock `file` and sends its heartbeats from a thread.

    timeout: seconds to wait for another holder. Raises Busy if a living process still holds the lock then, OSError if
    the file can't be written.
    """
    lock, end = FileLock(file), time.monotonic() + timeout
    while True:
        try:
            lock.acquire()
            break
        except Busy:
            if time.monotonic() >= end:
                raise
            time.sleep(0.1)
    stopped = threading.Event()

    def send_heartbeats() -> None:
        while not stopped.wait(HEARTBEAT_SECONDS):
            if lock.is_held():  # otherwise the heartbeats would keep the lock of a later, dead holder alive
                lock.heartbeat()

    thread = threading.Thread(target=send_heartbeats, daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the main thread handles signals
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        lock.release()


def _created(file: Path) -> bool:
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def describe(holder: dict[str, Any]) -> str:
    """The holder in words, for messages."""
    return f"process {holder['pid']} on {holder.get('host')}" if "pid" in holder else "another process"


def _is_earlier_start(holder: dict[str, Any], us: dict[str, Any]) -> bool:
    """Whether the holder is an earlier start of the same SLURM job: after a node failure SLURM starts the job on other
    nodes, while the old process may still live on a node that is cut off."""
    return (
        bool(us["job"])
        and holder.get("job") == us["job"]
        and isinstance(holder.get("restart_count"), int)
        and (holder["restart_count"] < us["restart_count"])
    )


def _slurm_job() -> dict[str, Any]:
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return {"job": os.environ.get("SLURM_JOB_ID", ""), "restart_count": int(count) if count.isdecimal() else 0}


def _pid_namespace() -> dict[str, Any]:
    """What a process number belongs to: a host, its boot (two hosts can have the same name), and a container."""
    boot = container = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    with contextlib.suppress(OSError):
        container = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "boot": boot, "container": container}


def _read(path: Path) -> dict[str, Any] | None:
    """The file's content; empty if it is damaged or can't be read, None if there is no file."""
    try:
        return _content(path)
    except OSError:
        return {}


def _content(path: Path) -> dict[str, Any] | None:
    """As `_read`, but raises OSError if the file can't be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
