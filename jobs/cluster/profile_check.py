"""What the cluster at hand lacks of what a profile and this project want: `python -m jobs profile NAME --check`."""

import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jobs.cluster.batch_script import KEPT_VARIABLES, python_start_error
from jobs.cluster.limits import calls_needed, cluster_config, limit_reached, submit_limits
from jobs.cluster.profile import LOCAL, Profile, select_cluster
from jobs.cluster.sbatch import sbatch_options
from jobs.cluster.slurm_cli import SchedulerUnavailable, run_slurm, slurm_output
from jobs.plan.graph import plan
from jobs.plan.settings import configure, studies
from ssl_pkg.config import SYNTHETIC

COMMANDS: Final = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
UNAVAILABLE_STATES: Final = (
    "down",
    "drain",
    "fail",
    "maint",
    "error",
    "unknown",
    "no_respond",
    "future",
    "inval",
)  # states of nodes
NO_FOLDER: Final = Path("/nonexistent")  # the folder of a plan that is only counted
CONFIGURATION_UNAVAILABLE: Final = (
    "Requested node configuration is not available"  # also where it is only not there now
)


@dataclass
class Findings:
    """Sentences for a person."""

    errors: list[str] = field(default_factory=list)  # with it no job would ever run
    notes: list[str] = field(default_factory=list)  # what is worth knowing: it works nevertheless


@dataclass(frozen=True)
class _Node:
    """A node, once in each of its partitions."""

    partition: str
    default: bool
    parse_minutes: int | None  # the partition's limit
    cpus: int
    memory_mb: int
    up: bool  # whether the partition starts jobs
    state: str  # SLURM's word, like idle, allocated, drained
    reason: str  # why it is down or drained

    @property
    def usable(self) -> bool:
        """Whether it takes jobs, now or after those that it has."""
        return not self.state.startswith(UNAVAILABLE_STATES) and not self.state.endswith("*")  # which does not respond


def check_profile(profile: Profile) -> Findings:
    """Asks the cluster that `profile` is for."""
    if profile.name == LOCAL:
        return Findings(notes=["it is for this machine alone, and asks no SLURM"])
    select_cluster(profile)
    missing = [tool for tool in COMMANDS if shutil.which(tool) is None]
    if missing:
        which = ", ".join(missing)
        return Findings([f"{which} not found: this is no login node of a SLURM cluster, or its module is not loaded"])
    try:
        known, nodes = cluster_config(), _nodes()
        unusable = _unavailable_nodes(profile, nodes)
        refused, full = _test_submission(profile, unavailable=bool(unusable))
        stops = _insufficient_resources(profile, nodes) or refused
        notes = [*unusable, *full, *_calls_for_studies(profile, known), *_cluster_notes(known)]
    except SchedulerUnavailable as error:
        return Findings(
            [f"SLURM does not answer ({error}): its controller is away, or SLURM_CONF names another cluster"]
        )
    if profile.gpus and "gpu" not in known.get("GresTypes", ""):
        stops.insert(0, f"gpus: {profile.gpus} a node, and the cluster knows no GPUs (GresTypes)")
    if profile.python and not Path(profile.python).exists():
        notes.insert(0, f"python: {profile.python} is not on this machine: it must be on the nodes")
    _environment(profile, stops, notes)
    return Findings(stops, notes)


def _environment(profile: Profile, stops: list[str], notes: list[str]) -> None:
    """What a job lacks whose site or profile gives it no environment (--export)."""
    if reason := python_start_error():
        stops.append(f"{sys.executable} does not start in a job that has no environment but PATH: {reason}")
    if "export" in profile.sbatch:
        kept = ", ".join(KEPT_VARIABLES)
        notes.append(f"export: {profile.sbatch['export']}: of your environment jobs get {kept}; the rest is for setup")


def _nodes() -> list[_Node]:
    rows = [line.split("|", 6) for line in slurm_output("sinfo", "-h", "-N", "-o", "%P|%l|%c|%m|%a|%T|%E").splitlines()]
    return [
        _Node(name.rstrip("*"), name.endswith("*"), minutes(limit), int(cpus), int(memory), up == "up", state, reason)
        for name, limit, cpus, memory, up, state, reason in rows
    ]


def _partitions(profile: Profile, nodes: list[_Node]) -> list[str]:
    """Those that SLURM may choose from."""
    return (
        (profile.partition or "").split(",") if profile.partition else sorted({n.partition for n in nodes if n.default})
    )


def _unavailable_nodes(profile: Profile, nodes: list[_Node]) -> list[str]:
    """What `submit` does where the partitions have no node that takes jobs now; nothing where one has."""
    names = _partitions(profile, nodes)
    mine = [node for node in nodes if node.partition in names]
    if not mine or any(node.usable and node.up for node in mine):
        return []
    if not any(node.up for node in mine):
        return [
            f"partition {', '.join(names)} is down: `submit` sends the jobs, and they wait in the queue until it is up"
        ]
    why = ", ".join(sorted({node.reason for node in mine} - {"none"}))
    return [
        f"all {len(mine)} nodes of {', '.join(names)} are {' or '.join(sorted({node.state for node in mine}))}"
        + (f" ({why})" if why else "")
        + ": `submit` sends the jobs all the same, and they wait in the queue until nodes are back"
    ]


def _calls_for_studies(profile: Profile, config: dict[str, str]) -> list[str]:
    """How often `submit` must be called for the studies that SLURM's limits don't let in at once."""
    limits = submit_limits(profile, config)
    if not limits:
        return []
    sizes = {}
    for study in studies():
        planned = configure(study, data=SYNTHETIC, seeds=None, overrides=())
        sizes[study] = len(plan(planned.study, runs=NO_FOLDER, reports=NO_FOLDER, data_root=SYNTHETIC))
    large = {study: calls_needed(limits[0], runs) for study, runs in sizes.items() if runs > limits[0].jobs}
    if not large:
        return []
    needed = ", ".join(f"{study} ({sizes[study]} runs) takes {calls}" for study, calls in large.items())
    return [
        f"{limits[0]}, and calls of `submit` send no more: {needed}, each after the jobs of the one before have ended. "
        "`submit --wait` (make: WAIT=1) makes them all"
    ]


def _insufficient_resources(profile: Profile, nodes: list[_Node]) -> list[str]:
    """What the partitions, each of those that SLURM may choose from, can't give."""
    names = _partitions(profile, nodes)
    if not names:
        return ["partition: the cluster has no default one, so the profile must name one"]
    found = []
    for name in names:
        mine = [node for node in nodes if node.partition == name]
        if not mine:
            there = ", ".join(sorted({node.partition for node in nodes}))
            found.append(f"partition: there is no {name}: there are {there}")
            continue
        limit = mine[0].parse_minutes
        if limit is not None and profile.minutes > limit:
            found.append(f"minutes: {profile.minutes} is more than partition {name} allows ({limit})")
        cpus = profile.cpus * profile.processes
        memory = profile.memory.on_node(cpus, profile.gpus) if profile.memory else 0.0
        large = [node for node in mine if node.cpus >= cpus]
        if not large:
            most = max(node.cpus for node in mine)
            found.append(
                f"cpus: {profile.cpus} x {profile.processes} processes on a node of partition {name}, whose nodes have "
                f"{most} at most"
            )
        elif not [node for node in large if node.memory_mb >= memory * 1024]:
            most = max(node.memory_mb for node in large) // 1024
            found.append(f"memory: {memory:g} GB on a node of partition {name}, whose nodes have {most} at most")
        elif len(mine) < profile.nodes:
            found.append(f"nodes: {profile.nodes}, and partition {name} has {len(mine)}")
    return found


def _test_submission(profile: Profile, *, unavailable: bool) -> tuple[list[str], list[str]]:
    """What sbatch itself says against a pretraining: accounts, qualities of service, constraints, memory; and what it
    says against one now. unavailable: no node takes jobs now, for which reason sbatch may refuse a trial, though not
    the job."""
    words = {"signal": f"USR2@{profile.signal_seconds}"} | sbatch_options(profile, "pretrain")
    line = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in words.items()
    ]  # fmt: skip
    done = run_slurm("sbatch", "--test-only", *line, "--wrap=true")
    said = [text.strip() for text in done.stderr.splitlines() if text.strip() and not text.startswith("Try ")]
    if done.returncode == 0 or (unavailable and said and CONFIGURATION_UNAVAILABLE in said[-1]):
        return [], []
    if reached := limit_reached(done.stderr):
        return [], [f"your queue is full now ({reached}): `submit` sends more when some of your jobs have ended"]
    return [f"sbatch refuses: {said[-1].removeprefix('allocation failure: ') if said else done.returncode}"], []


def _cluster_notes(config: dict[str, str]) -> list[str]:
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
