"""One process at a time writes a run directory."""

import contextlib
import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Final

from ssl_pkg.errors import Busy

STALE_SECONDS: Final = 120.0  # a heartbeat this old, from a host that can't be asked, is a dead owner's


class Owner:
    """The file `owner`, created atomically: who holds it may write. Its time of change is the holder's heartbeat."""

    def __init__(self, folder: Path) -> None:
        """Raises Busy if a living process holds the run directory."""
        self._path = folder / "owner"
        self._token = secrets.token_hex(8)
        content = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "token": self._token}
        while not self._create(json.dumps(content)):
            holder = _read(self._path)
            if holder is not None and _alive(holder, self._path):
                raise Busy(
                    f"{folder} is being written by process {holder.get('pid')} on {holder.get('host')}: "
                    "wait for it, or stop it"
                )
            if holder is not None:
                self._bury(str(holder.get("token")))

    def beat(self) -> None:
        """Tells others that this process lives."""
        with contextlib.suppress(OSError):
            os.utime(self._path)

    def release(self) -> None:
        """Gives the run directory free, if it is still ours."""
        holder = _read(self._path)
        if holder is not None and holder.get("token") == self._token:
            self._path.unlink(missing_ok=True)

    def _create(self, content: str) -> bool:
        """Makes the file with its content in one step: a link to a complete file either appears or is refused."""
        draft = self._path.with_name(f".owner.{self._token}")
        draft.write_text(content)
        try:
            os.link(draft, self._path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _bury(self, token: str) -> None:
        """Removes a dead owner's file, and never that of somebody who was faster.

        Only who holds the claim named after the dead token may remove it, after another look that it is still there.
        """
        claim = self._path.with_name(f".owner.{token}.burial")
        try:
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            time.sleep(0.05)
            with contextlib.suppress(FileNotFoundError):
                if time.time() - claim.stat().st_mtime > STALE_SECONDS:  # its maker died in the middle
                    claim.unlink()
            return
        holder = _read(self._path)
        if holder is not None and holder.get("token") == token:
            self._path.unlink(missing_ok=True)
        claim.unlink(missing_ok=True)


def _alive(holder: dict[str, Any], path: Path) -> bool:
    if holder.get("host") == socket.gethostname():
        return holder.get("born") is not None and _born(int(holder.get("pid", -1))) == holder.get("born")
    try:
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    except FileNotFoundError:
        return False


def _born(pid: int) -> str | None:
    """When process `pid` of this host started, in clock ticks since boot: tells it from a later one of that number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
