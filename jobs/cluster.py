"""What the cluster at hand lacks of what a profile and this project want: `python -m jobs profile NAME --check`."""

import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jobs.profile import LOCAL, Profile, reach
from jobs.queue import Away, ask
from jobs.script import KEPT, trial

TOOLS: Final = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")


@dataclass
class Findings:
    """Sentences for a person."""

    stops: list[str] = field(default_factory=list)  # with it no job would ever run
    notes: list[str] = field(default_factory=list)  # what is worth knowing: it works nevertheless


@dataclass(frozen=True)
class _Node:
    """A node, once in each of its partitions."""

    partition: str
    default: bool
    minutes: int | None  # the partition's limit
    cpus: int
    memory_mb: int


def check(profile: Profile) -> Findings:
    """Asks the cluster that `profile` is for."""
    if profile.name == LOCAL:
        return Findings(notes=["it is for this machine alone, and asks no SLURM"])
    reach(profile)
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        which = ", ".join(missing)
        return Findings([f"{which} not found: this is no login node of a SLURM cluster, or its module is not loaded"])
    try:
        config = dict(re.findall(r"^(\S+)\s*= (.*?)\s*$", _answer("scontrol", "show", "config"), re.MULTILINE))
        stops = _lacking_room(profile, _nodes()) or _refused(profile)
    except Away as error:
        return Findings(
            [f"SLURM does not answer ({error}): its controller is away, or SLURM_CONF names another cluster"]
        )
    if profile.gpus and "gpu" not in config.get("GresTypes", ""):
        stops.insert(0, f"gpus: {profile.gpus} a node, and the cluster knows no GPUs (GresTypes)")
    notes = _settings(config)
    if profile.python and not Path(profile.python).exists():
        notes.insert(0, f"python: {profile.python} is not on this machine: it must be on the nodes")
    _environment(profile, stops, notes)
    return Findings(stops, notes)


def _environment(profile: Profile, stops: list[str], notes: list[str]) -> None:
    """What a job lacks whose site or profile gives it no environment (--export)."""
    if reason := trial():
        stops.append(f"{sys.executable} does not start in a job that has no environment but PATH: {reason}")
    if "export" in profile.sbatch:
        kept = ", ".join(KEPT)
        notes.append(f"export: {profile.sbatch['export']}: of your environment jobs get {kept}; the rest is for setup")


def _nodes() -> list[_Node]:
    rows = [line.split("|") for line in _answer("sinfo", "-h", "-N", "-o", "%P|%l|%c|%m").splitlines()]
    return [
        _Node(name.rstrip("*"), name.endswith("*"), minutes(limit), int(cpus), int(memory))
        for name, limit, cpus, memory in rows
    ]


def _lacking_room(profile: Profile, nodes: list[_Node]) -> list[str]:
    """What the partitions, each of those that SLURM may choose from, can't give."""
    wanted = (profile.partition or "").split(",") if profile.partition else []
    names = wanted or sorted({node.partition for node in nodes if node.default})
    if not names:
        return ["partition: the cluster has no default one, so the profile must name one"]
    found = []
    for name in names:
        mine = [node for node in nodes if node.partition == name]
        if not mine:
            there = ", ".join(sorted({node.partition for node in nodes}))
            found.append(f"partition: there is no {name}: there are {there}")
            continue
        limit = mine[0].minutes
        if limit is not None and profile.minutes > limit:
            found.append(f"minutes: {profile.minutes} is more than partition {name} allows ({limit})")
        cpus, memory = profile.cpus * profile.processes, profile.memory_gb * 1024
        large = [node for node in mine if node.cpus >= cpus]
        if not large:
            most = max(node.cpus for node in mine)
            found.append(
                f"cpus: {profile.cpus} x {profile.processes} processes on a node of partition {name}, whose nodes have "
                f"{most} at most"
            )
        elif not [node for node in large if node.memory_mb >= memory]:
            most = max(node.memory_mb for node in large) // 1024
            found.append(
                f"memory_gb: {profile.memory_gb:g} on a node of partition {name}, whose nodes have {most} at most"
            )
        elif len(mine) < profile.nodes:
            found.append(f"nodes: {profile.nodes}, and partition {name} has {len(mine)}")
    return found


def _refused(profile: Profile) -> list[str]:
    """What sbatch itself says against a pretraining: accounts, qualities of service, constraints."""
    words = {
        "partition": profile.partition, "account": profile.account, "qos": profile.qos,
        "constraint": profile.constraint, "gpus-per-node": profile.gpus or None, "nodes": profile.nodes,
        "ntasks-per-node": profile.processes, "cpus-per-task": profile.cpus, "time": profile.minutes,
        "mem": f"{round(profile.memory_gb * 1024)}M", "signal": f"USR2@{profile.signal_seconds}", **profile.sbatch,
    }  # fmt: skip
    line = [f"--{name}" if value is True else f"--{name}={value}" for name, value in words.items() if value]
    done = ask("sbatch", "--test-only", *line, "--wrap=true")
    if done.returncode == 0:
        return []
    said = [text.strip() for text in done.stderr.splitlines() if text.strip()]
    telling = [text for text in said if not text.startswith("Try ")]
    return [f"sbatch refuses: {telling[-1].removeprefix('allocation failure: ') if telling else done.returncode}"]


def _settings(config: dict[str, str]) -> list[str]:
    found = []
    if "none" in config.get("AccountingStorageType", "none"):
        found.append("no accounting: sacct can't tell how jobs ended; status reads it from the runs' own logs")
    preempts = config.get("PreemptType", "preempt/none") not in ("preempt/none", "(null)")
    if preempts and "preempt_send_user_signal" not in config.get("SlurmctldParameters", ""):
        found.append("preemption sends SIGTERM only: that works, with a checkpoint within the partition's GraceTime")
    if preempts and "REQUEUE" not in config.get("PreemptMode", ""):
        found.append(f"preemption does not requeue (PreemptMode={config.get('PreemptMode')}): send what it ended again")
    if config.get("JobRequeue") == "0":
        found.append("jobs are not requeued after a node's failure unless they ask for it: this project's do ask")
    return found


def minutes(limit: str) -> int | None:
    """SLURM's days-hours:minutes:seconds in minutes; None if there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if not found:
        return None
    days, hours, rest, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + rest


def _answer(*line: str) -> str:
    done = ask(*line)
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if text.strip()]
        raise Away(said[-1].strip() if said else f"{line[0]} ends with {done.returncode}")
    return done.stdout
