"""A SLURM cluster on one machine, for tests and trials: `python -m slurm.testbed up | down`.

Runs the real daemons (Debian packages slurm-wlm and munge; for accounting slurmdbd and mariadb-server) as root or as
another user, without systemd, with their state in one folder. The nodes are loopback addresses of this host, so that
processes on two nodes communicate as on two machines. Jobs in the partition `high` preempt those in `low`, which SLURM
requeues.
"""

import argparse
import hashlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import Final

from slurm.daemons import ACCOUNTING, CONF, DATABASE, SQL
from slurm.processes import ClusterStartError, is_alive, read_pid, terminate, wait_until
from ssl_pkg.messages.counted import counted
from ssl_pkg.messages.streams import prepare_streams

PACKAGES: Final = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "munged": "munge",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}
DEFAULT_BASE: Final = Path(__file__).resolve().parent.parent / ".testbed"  # also in the profile testbed.yaml
READY_STATES: Final = ("idle", "mixed", "allocated", "completing", "planned")


@dataclass(frozen=True)
class LocalCluster:
    """A cluster whose state is in the folder `base`."""

    base: Path
    nodes: int = 2
    cpus: int = 1  # of each node; may be more than the host has
    accounting: bool = False
    limits: bool = False  # whether accounting enforces its limits
    largest_array: int = 2001  # MaxArraySize, which limits the tasks of an array
    user_signal: bool = True  # whether preemption sends USR2; otherwise only SIGTERM, SLURM's default
    grace: int = 15  # GraceTime: seconds from the signal of a preemption to the kill
    port: int = 16817  # of slurmctld; the nodes use the next ports, accounting uses port + 90 and + 91

    @property
    def conf(self) -> Path:
        """The cluster's slurm.conf, for SLURM_CONF."""
        return self.base / "slurm.conf"

    @property
    def link(self) -> Path:
        """A short link to `base`: a socket path has at most 108 characters, of which SLURM needs 46, and no spaces."""
        return Path("/tmp") / f"slurm-{hashlib.sha256(os.fsencode(self.base)).hexdigest()[:12]}"

    @property
    def names(self) -> list[str]:
        """The names of the nodes, which are also their addresses."""
        return [f"127.0.0.{number + 11}" for number in range(self.nodes)]

    @property
    def environment(self) -> dict[str, str]:
        """The environment for SLURM's commands and daemons."""
        sbin = [folder for folder in ("/usr/sbin", "/sbin") if folder not in os.environ["PATH"].split(":")]
        return os.environ | {"SLURM_CONF": str(self.conf), "PATH": ":".join([os.environ["PATH"], *sbin])}

    def up(self) -> None:
        """Starts all daemons that are not running. Raises ClusterStartError."""
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
        wait_until(self._ready, "the nodes were not ready", self.base / "log")

    def start_controller(self) -> None:
        """Starts slurmctld if it is not running."""
        if not is_alive(self.base / "slurmctld.pid"):
            self._run("slurmctld")

    def start_node(self, name: str) -> None:
        """Starts the slurmd of a node if it is not running."""
        if not is_alive(self.base / f"slurmd-{name}.pid"):
            self._run("slurmd", "-N", name)

    def stop_controller(self) -> None:
        """Stops slurmctld, which first saves its state."""
        terminate([self.base / "slurmctld.pid"])

    def kill(self, daemon: str) -> None:
        """Kills `slurmctld` or `slurmd-NODE` with SIGKILL, as a crash would."""
        pid = read_pid(self.base / f"{daemon}.pid")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def down(self, purge: bool = False) -> None:
        """Cancels the jobs, and ends all daemons and remaining job processes. purge: also removes the state."""
        if is_alive(self.base / "slurmctld.pid"):
            self._make_link()  # a cleanup of /tmp may have removed the link
            self._cancel_all()
        for pattern in ("slurmctld.pid", "slurmd-*.pid", "slurmdbd.pid", "mariadb.pid", "munged.pid"):
            terminate([file for file in self.base.glob(pattern) if is_alive(file)])
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
            raise ClusterStartError(f"{self.link} belongs to somebody else: remove it")

    def _check(self) -> None:
        wanted = ["munged", "slurmctld", "slurmd"] + ["slurmdbd", "mariadbd"] * self.accounting
        missing = [name for name in wanted if shutil.which(name, path=self.environment["PATH"]) is None]
        if missing:
            packages = sorted({PACKAGES[name] for name in missing})
            raise ClusterStartError(f"{', '.join(missing)} not found: apt-get install {' '.join(packages)}")

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
        fields = {"host": socket.gethostname().partition(".")[0], "user": getuser(), "base": self.link}
        fields["largest_array"] = str(self.largest_array)
        return CONF.format(**fields, port=self.port, grace=self.grace, more="\n".join(more), nodes="\n".join(nodes))

    def _start_munge(self) -> None:
        key, socket_file = self.base / "munge.key", self.link / "munge" / "socket"
        if not key.exists():
            key.write_bytes(secrets.token_bytes(1024))
            key.chmod(0o600)
        if not is_alive(self.base / "munged.pid"):
            self._run(
                "munged", "--force", f"--key-file={key}", f"--socket={socket_file}",
                f"--seed-file={self.base}/munge.seed", f"--pid-file={self.base}/munged.pid",
                f"--log-file={self.base}/log/munged.log",
            )  # fmt: skip
        wait_until(
            lambda: self._succeeds("munge", "-S", str(socket_file), "-n"), "munge did not answer", self.base / "log"
        )

    def _start_database(self) -> None:
        data, socket_file, log = self.link / "mysql", self.link / "mysql.socket", self.base / "log"
        if not data.is_dir():
            self._run(
                "mariadb-install-db", "--no-defaults", f"--user={getuser()}", f"--datadir={data}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
            )  # fmt: skip
        if not is_alive(self.base / "mariadb.pid"):
            self._run(
                "setsid", "--fork", "mariadbd", "--no-defaults", f"--user={getuser()}", f"--datadir={data}",
                f"--socket={socket_file}", "--bind-address=127.0.0.1", f"--port={self.port + 90}",
                f"--pid-file={self.base}/mariadb.pid", "--innodb-buffer-pool-size=64M",
                "--innodb-lock-wait-timeout=900", "--skip-log-bin",
            )  # fmt: skip
        sql = ("mariadb", "--no-defaults", "-S", str(socket_file), "-u", "root", "-e", SQL)
        wait_until(lambda: self._succeeds(*sql), "the database did not answer", log)
        conf = self.base / "slurmdbd.conf"
        fields = {"base": self.link, "host": socket.gethostname().partition(".")[0], "user": getuser()}
        conf.touch(0o600)
        conf.write_text(DATABASE.format(**fields, port=self.port + 91, storage=self.port + 90), encoding="utf-8")
        if not is_alive(self.base / "slurmdbd.pid"):
            self._run("slurmdbd")
        known = ("sacctmgr", "-n", "-i", "add", "cluster", "testbed")
        listed = ("sacctmgr", "-n", "show", "cluster", "format=cluster")
        wait_until(
            lambda: self._succeeds(*known) or "testbed" in self._output(*listed), "accounting did not answer", log
        )
        if self.limits:
            self._succeeds("sacctmgr", "-n", "-i", "add", "account", "tests")
            self._succeeds("sacctmgr", "-n", "-i", "add", "user", getuser(), "account=tests", "defaultaccount=tests")

    def _ready(self) -> bool:
        states = self._output("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split()
        return [state in READY_STATES for state in states] == [True] * self.nodes

    def _cancel_all(self) -> None:
        for _ in range(60):  # a job may just be requeuing itself, so once is not enough
            if not self._output("squeue", "-h", "-o", "%A").split():
                return
            self._succeeds("scancel", f"--user={getuser()}")
            time.sleep(0.5)

    def _leftovers(self) -> Iterator[int]:
        """The process ids of this cluster's job processes that have survived their daemons."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (folder / "environ").read_bytes().split(b"\0")
                if os.fsencode(f"SLURM_CONF={self.conf}") not in environment:
                    continue
                in_job = any(entry.startswith(b"SLURM_JOB_ID=") for entry in environment)
                if in_job or (folder / "comm").read_text(encoding="utf-8").startswith("slurmstepd"):
                    yield int(folder.name)

    def _output(self, *line: str) -> str:
        done = subprocess.run(
            line, env=self.environment, capture_output=True, encoding="utf-8", check=False, timeout=60
        )
        return done.stdout

    def _succeeds(self, *line: str) -> bool:
        return subprocess.run(line, env=self.environment, capture_output=True, check=False, timeout=60).returncode == 0

    def _run(self, *line: str) -> None:
        with (self.base / "log" / "starts.log").open("ab") as out:
            done = subprocess.run(
                line, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
            )
        if done.returncode:
            raise ClusterStartError(f"{line[0]} did not start (status {done.returncode}): see {self.base}/log")


def main(arguments: list[str]) -> int:
    """Runs a command line and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m slurm.testbed", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=LocalCluster.cpus, help="CPUs of each node")
    parser.add_argument("--accounting", action="store_true", help="also start slurmdbd, for sacct")
    parser.add_argument("--purge", action="store_true", help="down: also remove the state")
    options = parser.parse_args(arguments)
    bed = LocalCluster(DEFAULT_BASE.resolve(), nodes=options.nodes, cpus=options.cpus, accounting=options.accounting)
    try:
        if options.command == "up":
            bed.up()
            print(f"{counted(bed.nodes, 'node')} with {counted(bed.cpus, 'CPU')} each. To use SLURM's commands:")
            print(f"  export SLURM_CONF={shlex.quote(str(bed.conf))}")
        else:
            bed.down(purge=options.purge)
    except ClusterStartError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
