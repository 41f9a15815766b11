"""A SLURM on one machine, for tests and for trying things before the cluster: `python -m slurm.testbed up | down`.

Real daemons (Debian: slurm-wlm, munge; for accounting slurmdbd, mariadb-server) with all their state in one folder, as
root or as a plain user, without systemd. The nodes are addresses of this host, so that processes on two of them meet
as they would on two machines. Jobs in the partition `low` are preempted and requeued by those in `high`.
"""

import argparse
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import Final

from slurm.daemons import ACCOUNTING, CONF, DATABASE, SQL
from ssl_pkg.streams import prepare_streams

PACKAGES: Final = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "munged": "munge",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}
DEFAULT_BASE: Final = Path(__file__).resolve().parent.parent / ".testbed"  # the profile testbed.yaml names it
READY_STATES: Final = ("idle", "mixed", "allocated", "completing", "planned")


class TestbedError(Exception):
    """What the testbed needs and doesn't find, in one sentence."""


@dataclass(frozen=True)
class LocalCluster:
    """The cluster whose state lies in `base`."""

    base: Path
    nodes: int = 2
    cpus: int = 2  # of each node; more than the host has is possible
    accounting: bool = False
    limits: bool = False  # accounting enforces its limits
    largest_array: int = 2001  # MaxArraySize: the tasks of one array
    user_signal: bool = True  # preemption sends USR2; otherwise SIGTERM alone, which is SLURM's default
    grace: int = 15  # seconds from a preemption's signal to the kill
    port: int = 16817  # slurmctld's; the nodes have the next ones, accounting 90 and 91 above

    @property
    def conf(self) -> Path:
        """What SLURM_CONF must name for every SLURM command that is meant for this cluster."""
        return self.base / "slurm.conf"

    @property
    def link(self) -> Path:
        """A short way to `base`: of a socket's 108 characters SLURM takes 46, and it reads no spaces."""
        return Path("/tmp") / f"slurm-{hashlib.sha256(os.fsencode(self.base)).hexdigest()[:12]}"

    @property
    def names(self) -> list[str]:
        """The nodes' names, which are their addresses too."""
        return [f"127.0.0.{number + 11}" for number in range(self.nodes)]

    @property
    def environment(self) -> dict[str, str]:
        """This process's, with the cluster in it."""
        sbin = [folder for folder in ("/usr/sbin", "/sbin") if folder not in os.environ["PATH"].split(":")]
        return os.environ | {"SLURM_CONF": str(self.conf), "PATH": ":".join([os.environ["PATH"], *sbin])}

    def up(self) -> None:
        """Starts what isn't running. Raises NotPossible."""
        self._check()
        for folder in ("log", "munge", "state", *(f"spool/{name}" for name in self.names)):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        self._make_link()
        (self.base / "munge").chmod(0o711)
        (self.base / "state").chmod(0o700)
        self.conf.write_text(self._conf(), encoding="utf-8")
        self._start_munge()
        if self.accounting:
            self._start_database()
        self.start_controller()
        for name in self.names:
            self.start_node(name)
        _until(self._ready, "the nodes are ready", self.base / "log")

    def start_controller(self) -> None:
        """Starts slurmctld, if it isn't running."""
        if not _alive(self.base / "slurmctld.pid"):
            self._run("slurmctld")

    def start_node(self, name: str) -> None:
        """Starts one node's slurmd, if it isn't running."""
        if not _alive(self.base / f"slurmd-{name}.pid"):
            self._run("slurmd", "-N", name)

    def end_controller(self) -> None:
        """Ends slurmctld in good order: it saves what it knows of the jobs."""
        _end([self.base / "slurmctld.pid"])

    def kill(self, daemon: str) -> None:
        """kill −9 of `slurmctld` or `slurmd-NODE`, as a crash would be."""
        pid = _pid(self.base / f"{daemon}.pid")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def down(self, purge: bool = False) -> None:
        """Cancels the jobs and ends all daemons and whatever of the jobs is left; with `purge` removes the state."""
        if _alive(self.base / "slurmctld.pid"):
            self._make_link()  # what tidies /tmp up may have removed it
            self._cancel_all()
        for pattern in ("slurmctld.pid", "slurmd-*.pid", "slurmdbd.pid", "mariadb.pid", "munged.pid"):
            _end([file for file in self.base.glob(pattern) if _alive(file)])
        for pid in self._leftovers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.link.is_symlink():
            self.link.unlink()
        if purge:
            shutil.rmtree(self.base, ignore_errors=True)

    def _make_link(self) -> None:
        if not self.link.is_symlink():
            self.link.symlink_to(self.base)
        if self.link.lstat().st_uid != os.getuid() or self.link.readlink() != self.base:
            raise TestbedError(f"{self.link} is somebody else's: remove it")

    def _check(self) -> None:
        wanted = ["munged", "slurmctld", "slurmd"] + ["slurmdbd", "mariadbd"] * self.accounting
        missing = [name for name in wanted if shutil.which(name, path=self.environment["PATH"]) is None]
        if missing:
            packages = sorted({PACKAGES[name] for name in missing})
            raise TestbedError(f"{', '.join(missing)} not found: apt-get install {' '.join(packages)}")

    def _conf(self) -> str:
        more = ["SlurmctldParameters=preempt_send_user_signal"] * self.user_signal
        if self.accounting:
            more.append(ACCOUNTING.format(port=self.port + 91, base=self.link))
            more += ["AccountingStorageEnforce=limits"] * self.limits
        nodes = [
            f"NodeName={name} NodeHostname={name} NodeAddr={name} Port={self.port + 1 + number} "
            f"CPUs={self.cpus} RealMemory=8000 State=UNKNOWN"
            for number, name in enumerate(self.names)
        ]
        words = {"host": socket.gethostname().partition(".")[0], "user": getuser(), "base": self.link}
        words["largest_array"] = str(self.largest_array)
        return CONF.format(**words, port=self.port, grace=self.grace, more="\n".join(more), nodes="\n".join(nodes))

    def _start_munge(self) -> None:
        key, socket_file = self.base / "munge.key", self.link / "munge" / "socket"
        if not key.exists():
            key.write_bytes(secrets.token_bytes(1024))
            key.chmod(0o600)
        if not _alive(self.base / "munged.pid"):
            self._run(
                "munged", "--force", f"--key-file={key}", f"--socket={socket_file}",
                f"--seed-file={self.base}/munge.seed", f"--pid-file={self.base}/munged.pid",
                f"--log-file={self.base}/log/munged.log",
            )  # fmt: skip
        _until(lambda: self._works("munge", "-S", str(socket_file), "-n"), "munge answers", self.base / "log")

    def _start_database(self) -> None:
        data, socket_file, log = self.link / "mysql", self.link / "mysql.socket", self.base / "log"
        if not data.is_dir():
            self._run(
                "mariadb-install-db", "--no-defaults", f"--user={getuser()}", f"--datadir={data}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
            )  # fmt: skip
        if not _alive(self.base / "mariadb.pid"):
            self._run(
                "setsid", "--fork", "mariadbd", "--no-defaults", f"--user={getuser()}", f"--datadir={data}",
                f"--socket={socket_file}", "--bind-address=127.0.0.1", f"--port={self.port + 90}",
                f"--pid-file={self.base}/mariadb.pid", "--innodb-buffer-pool-size=64M",
                "--innodb-lock-wait-timeout=900", "--skip-log-bin",
            )  # fmt: skip
        sql = ("mariadb", "--no-defaults", "-S", str(socket_file), "-u", "root", "-e", SQL)
        _until(lambda: self._works(*sql), "the data base answers", log)
        conf = self.base / "slurmdbd.conf"
        words = {"base": self.link, "host": socket.gethostname().partition(".")[0], "user": getuser()}
        conf.touch(0o600)
        conf.write_text(DATABASE.format(**words, port=self.port + 91, storage=self.port + 90), encoding="utf-8")
        if not _alive(self.base / "slurmdbd.pid"):
            self._run("slurmdbd")
        known = ("sacctmgr", "-n", "-i", "add", "cluster", "testbed")
        _until(lambda: self._works(*known) or self._lists("sacctmgr", "testbed"), "accounting answers", log)
        if self.limits:
            self._works("sacctmgr", "-n", "-i", "add", "account", "tests")
            self._works("sacctmgr", "-n", "-i", "add", "user", getuser(), "account=tests", "defaultaccount=tests")

    def _lists(self, command: str, word: str) -> bool:
        return word in self._printed(command, "-n", "show", "cluster", "format=cluster")

    def _ready(self) -> bool:
        states = self._printed("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split()
        return [state in READY_STATES for state in states] == [True] * self.nodes

    def _cancel_all(self) -> None:
        for _ in range(60):  # again and again: a job may be just about to requeue itself
            if not self._printed("squeue", "-h", "-o", "%A").split():
                return
            self._works("scancel", f"--user={getuser()}")
            time.sleep(0.5)

    def _leftovers(self) -> Iterator[int]:
        """Job processes of this cluster that outlived their daemons."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (folder / "environ").read_bytes().split(b"\0")
                if os.fsencode(f"SLURM_CONF={self.conf}") not in environment:
                    continue
                in_job = any(entry.startswith(b"SLURM_JOB_ID=") for entry in environment)
                if in_job or (folder / "comm").read_text(encoding="utf-8").startswith("slurmstepd"):
                    yield int(folder.name)

    def _printed(self, *line: str) -> str:
        done = subprocess.run(
            line, env=self.environment, capture_output=True, encoding="utf-8", check=False, timeout=60
        )  # fmt: skip
        return done.stdout

    def _works(self, *line: str) -> bool:
        return subprocess.run(line, env=self.environment, capture_output=True, check=False, timeout=60).returncode == 0

    def _run(self, *line: str) -> None:
        with (self.base / "log" / "starts.log").open("ab") as out:
            done = subprocess.run(
                line, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
            )
        if done.returncode:
            raise TestbedError(f"{line[0]} doesn't start (status {done.returncode}): see {self.base}/log")


def free_ports() -> int:
    """The first of a hundred ports that are free, below those that the kernel gives to outgoing connections.

    Raises NotPossible."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()[0])
    for first in random.sample(range(10_000, lowest - 100, 100), 50):
        with ExitStack() as tried:
            try:
                for port in range(first, first + 100):
                    tried.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise TestbedError("no hundred ports in a row are free")


def _pid(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(file.read_text(encoding="utf-8"))
    return None


def _alive(file: Path) -> bool:
    """Whether the process that a pid file names lives; a corpse doesn't."""
    pid = _pid(file)
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def _end(files: Sequence[Path]) -> None:
    for file in files:
        with suppress(ProcessLookupError):
            os.kill(_pid(file) or 0, signal.SIGTERM)
    deadline = time.monotonic() + 10
    for file in files:
        while _alive(file) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _alive(file):
            os.kill(_pid(file) or 0, signal.SIGKILL)
        file.unlink(missing_ok=True)


def _until(holds: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            raise TestbedError(f"it did not come about within a minute that {what}: see {log}")
        time.sleep(0.1)


def main(arguments: list[str]) -> int:
    """Does what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m slurm.testbed", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help="folder of its state (.testbed in the project)")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=1, help="of each node")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd, so that sacct answers")
    parser.add_argument("--term-only", action="store_true", help="preemption sends SIGTERM alone, SLURM's default")
    parser.add_argument("--purge", action="store_true", help="down: remove its state too")
    options = parser.parse_args(arguments)
    bed = LocalCluster(
        options.base.resolve(), nodes=options.nodes, cpus=options.cpus, accounting=options.accounting,
        user_signal=not options.term_only,
    )  # fmt: skip
    try:
        if options.command == "up":
            bed.up()
            print(f"{bed.nodes} nodes with {bed.cpus} CPUs each. For squeue and the like by hand:")
            print(f"  export SLURM_CONF={bed.conf}")
        else:
            bed.down(purge=options.purge)
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
