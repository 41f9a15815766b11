"""One process at a time writes a run directory. Works on network file systems: no flock, no clock but the server's."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ssl_pkg.errors import BadInput, Busy

OWNER: Final = "owner"
TRIES: Final = 100  # to take a folder that others make and remove
DRAFT: Final = ".owner."  # how the files begin that exist for a moment while somebody wants to be it
STALE_SECONDS: Final = 60.0  # an owner that can't be asked is dead when its heart has not beaten for so long
_LOOK_SECONDS: Final = 0.5


def take(folder: Path) -> "Owner":
    """Makes the run directory if it is not there, and becomes its owner.

    Raises Busy as Owner does, OSError if it can't be written, BadInput if it is something else.
    """
    for tries_left in reversed(range(TRIES)):
        made = _make(folder)
        try:
            owner = Owner(folder)
            break
        except FileNotFoundError:  # who had made it in vain has removed it meanwhile
            if not tries_left:
                raise
    owner.may_remove = made and not (folder / "config.yaml").exists()  # else another's run began in it meanwhile
    return owner


class Owner:
    """The file `owner`, created atomically: who holds it may write. Its time of change is the holder's heartbeat."""

    def __init__(self, folder: Path, name: str = OWNER) -> None:
        """Raises Busy if a living process holds the file; waits up to STALE_SECONDS to know."""
        self.may_remove = False  # whether the folder is new and holds nothing but what this process puts there
        self._path = folder / name
        self._drafts = DRAFT if name == OWNER else f".{name.lstrip('.')}."
        self._token = secrets.token_hex(8)
        content = _identity() | _job() | {"pid": os.getpid(), "born": _born(os.getpid()), "token": self._token}
        while not self._create(json.dumps(content)):
            holder = _read(self._path)
            if holder is not None and _earlier_start(holder, content):
                self._take_over(json.dumps(content))
                return
            if holder is not None and self._alive(holder):
                raise Busy(f"{folder} is being written by {_named(holder)}: wait for it, or stop it")
            if holder is not None:
                self._bury(holder)

    def holds(self) -> bool:
        """Whether the run directory is still ours: a process that stood still for long may have been succeeded."""
        return (_read(self._path) or {}).get("token") == self._token

    def verify(self) -> None:
        """To be called before anything is written. Raises Busy if another process has taken over."""
        if not self.holds():
            if not self._path.parent.is_dir():
                raise Busy(f"{self._path.parent} is gone: it was moved or removed while this process worked in it")
            raise Busy(
                f"{self._path.parent} was taken over by {_named(_read(self._path) or {})} while this process stood "
                "still: this one stops here and writes nothing more"
            )

    def beat(self) -> None:
        """Tells others that this process lives."""
        with contextlib.suppress(OSError):
            try:
                os.utime(self._path)
            except PermissionError:  # some file systems let nobody set a time; writing the same bytes sets it, too
                with self._path.open("r+b") as file:
                    content = file.read()
                    if self._token.encode() in content:  # not a successor's file
                        file.seek(0)
                        file.write(content)

    def sweep(self) -> None:
        """Removes what a kill left of files that were being written.

        A process that loses its draft of an owner file by this makes another.
        """
        folder = self._path.parent
        for unfinished in (*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp"), *folder.glob(f"{DRAFT}*")):
            unfinished.unlink(missing_ok=True)

    def give_free(self, remove: bool = False) -> None:
        """Gives the run directory free, if it is still ours. remove: and removes it, if it was made for nothing."""
        if not self.holds():
            return
        if not (remove and self.may_remove):
            self._path.unlink(missing_ok=True)
            return
        for entry in self._path.parent.iterdir():  # while it is ours; what says so goes last
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self._path and not entry.name.startswith(DRAFT):
                entry.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody else is taking it already
            self._path.parent.rmdir()

    def _create(self, content: str) -> bool:
        """Makes the file with its content in one step: a link to a complete file either appears or is refused."""
        with self._draft(content) as draft:
            try:
                os.link(draft, self._path)
            except FileExistsError:
                return self.holds()  # over NFS a link can succeed and its answer get lost
            except FileNotFoundError:
                raise
            except OSError:  # FAT, SMB and many FUSE file systems have no links
                return self._create_exclusively(content)
        return True

    def _create_exclusively(self, content: str) -> bool:
        """Makes the file and then writes to it. A process that reads it in between waits as for an unknown holder."""
        try:
            with self._path.open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            return self.holds()
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        return True

    def _take_over(self, content: str) -> None:
        """Puts our file in the place of the other's in one step; it looks before its next write, and stops."""
        with self._draft(content) as draft:
            draft.replace(self._path)

    @contextlib.contextmanager
    def _draft(self, content: str) -> Iterator[Path]:
        """A file of our own with this content, for as long as it is needed."""
        draft = self._path.with_name(f"{self._drafts}{self._token}")
        try:
            draft.write_text(content, encoding="utf-8")
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _alive(self, holder: dict[str, Any]) -> bool:
        """Asks this host about the process; of another host, or another container, waits for a beat of its heart."""
        if {key: holder.get(key) for key in _identity()} == _identity():
            return holder.get("born") is not None and _born(int(holder.get("pid", -1))) == holder.get("born")
        last, told = self._last_beat(), False
        while last is not None and self._now() - last < STALE_SECONDS:
            time.sleep(_LOOK_SECONDS)
            if (_read(self._path) or {}) != holder:
                return False  # another holder, or this one's content, which was not written yet
            if self._last_beat() != last:
                return True
            if not told and self._now() - last > STALE_SECONDS / 4:  # a living one would have been heard of by now
                told = True
                what = f"{self._path.parent} was being written by {_named(holder)}, and is taken over if nothing is"
                print(f"ssl_pkg: {what} heard of it for {STALE_SECONDS:.0f} s", file=sys.stderr, flush=True)
        return False

    def _last_beat(self) -> float | None:
        """By the file server's clock. Opened, not only asked for: NFS answers from a cache until a file is opened."""
        try:
            with self._path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None

    def _now(self) -> float:
        """What time the file server has: hosts' clocks differ."""
        with self._draft("") as draft:
            return draft.stat().st_mtime

    def _bury(self, dead: dict[str, Any]) -> None:
        """Removes a dead owner's file, and never that of somebody who was faster.

        Only who holds the claim named after the dead owner may remove it, after another look that it is still there.
        """
        name = hashlib.sha256(repr(dead).encode(errors="replace")).hexdigest()[:16]
        claim = self._path.with_name(f"{self._drafts}{name}.burial")
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError):
                if self._now() - claim.stat().st_mtime > STALE_SECONDS:  # its maker died in the middle
                    claim.unlink()
            return
        if _read(self._path) == dead:
            self._path.unlink(missing_ok=True)
        claim.unlink(missing_ok=True)


def _make(folder: Path) -> bool:
    """Makes the run directory; returns whether it is new."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = [entry.name for entry in folder.iterdir()]
        if {"config.yaml", OWNER}.isdisjoint(names) and not all(name.startswith(DRAFT) for name in names):
            raise BadInput(
                f"run_dir={folder} holds something that is not a run: give another folder, or empty this one"
            ) from None
        return False
    return True


def _earlier_start(holder: dict[str, Any], us: dict[str, Any]) -> bool:
    """Whether the holder is an earlier start of the same SLURM job: after a node's failure SLURM starts a job anew
    elsewhere, while the old process may live on beside it."""
    return (
        bool(us["job"])
        and holder.get("job") == us["job"]
        and isinstance(holder.get("start"), int)
        and (holder["start"] < us["start"])
    )


def _job() -> dict[str, Any]:
    start = os.environ.get("SLURM_RESTART_COUNT", "")
    return {"job": os.environ.get("SLURM_JOB_ID", ""), "start": int(start) if start.isdecimal() else 0}


def _identity() -> dict[str, Any]:
    """Within what a process number means something: a host, which others can be named like, and on it a container."""
    boot = container = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    with contextlib.suppress(OSError):
        container = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "boot": boot, "container": container}


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder['pid']} on {holder.get('host')}" if "pid" in holder else "somebody"


def _born(pid: int) -> str | None:
    """When process `pid` of this host started, in clock ticks since boot: tells it from a later one of that number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """What the file says, nothing if it is damaged, None if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
