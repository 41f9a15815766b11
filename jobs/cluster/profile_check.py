"""Checks a profile against its cluster: `ssl-study profile NAME --check`."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jobs.cluster.batch_script import KEPT_VARIABLES, python_start_error
from jobs.cluster.limits import calls_needed, cluster_config, limit_reached, submit_limits
from jobs.cluster.profile import LOCAL, Profile, select_cluster
from jobs.cluster.sbatch import sbatch_options
from jobs.cluster.slurm_cli import SchedulerUnavailable, SlurmMissing, run_slurm, slurm_output
from jobs.plan.graph import plan
from jobs.plan.settings import configure
from ssl_pkg.config.presets import studies
from ssl_pkg.config.schema import SYNTHETIC
from ssl_pkg.extras import MODULES

COMMANDS: Final = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
# States of nodes, as the beginnings of sinfo's words.
UNAVAILABLE_STATES: Final = ("down", "drain", "fail", "maint", "error", "unknown", "no_respond", "future", "inval")
NO_FOLDER: Final = Path("/nonexistent")  # for a plan whose runs are only counted
# An error of sbatch, also if the nodes are only unavailable now.
CONFIGURATION_UNAVAILABLE: Final = "Requested node configuration is not available"
# Prints those of its arguments that are not installed; it imports none of them.
FIND_MISSING: Final = "import sys, importlib.util as u; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"
SHOWN: Final = 3  # missing packages
_NODE: Final = re.compile(r"[^|]*\|[^|]*\|\d+\|\d+\|[^|]*\|[^|]*\|")  # a row of sinfo begins with this


@dataclass
class Findings:
    """Sentences for the user."""

    errors: list[str] = field(default_factory=list)  # no job would ever run
    notes: list[str] = field(default_factory=list)  # jobs run nevertheless


@dataclass(frozen=True)
class _Node:
    """A node in one of its partitions."""

    partition: str
    default: bool
    minutes: int | None  # the partition's limit
    cpus: int
    memory_mb: int
    up: bool  # whether the partition is up
    state: str  # like idle, allocated or drained
    reason: str  # why the node is down or drained

    @property
    def usable(self) -> bool:
        """Whether the node accepts jobs, now or when its current jobs have ended."""
        return not self.state.startswith(UNAVAILABLE_STATES) and not self.state.endswith("*")  # `*`: not responding


def check_profile(profile: Profile) -> Findings:
    """Checks `profile` against its cluster. Raises BadInput if its slurm.conf does not exist."""
    if profile.name == LOCAL:
        return Findings(notes=["this profile is for this machine, without SLURM"])
    select_cluster(profile)
    missing = [tool for tool in COMMANDS if shutil.which(tool) is None]
    if missing:
        error = SlurmMissing(f"{', '.join(missing)} not found")
        return Findings([error.explain()])
    try:
        config, nodes = cluster_config(), _nodes()
        unavailable = _unavailable_nodes(profile, nodes)
        refused, full = _test_submission(profile, unavailable=bool(unavailable))
        errors = _insufficient_resources(profile, nodes) or refused
        notes = [*unavailable, *full, *_calls_for_studies(profile, config), *_cluster_notes(config)]
    except SchedulerUnavailable as error:
        return Findings([error.explain("its controller is down, or SLURM_CONF names another cluster")])
    if profile.gpus and "gpu" not in config.get("GresTypes", ""):
        errors.insert(0, f"gpus: {profile.gpus} per node, but the cluster has no GPUs (GresTypes)")
    _environment(profile, errors, notes)
    stages = check_python(profile)
    return Findings([*errors, *stages.errors], [*stages.notes, *notes])


def check_python(profile: Profile) -> Findings:
    """Findings about the Python of the stages and of the report, as far as this machine sees its environment."""
    if profile.container:
        return Findings()
    python = profile.python or sys.executable
    if not os.access(python, os.F_OK):
        return Findings(notes=[f"python: {python} does not exist on this machine: it must exist on the nodes"])
    needed = dict.fromkeys([*MODULES["train"], *MODULES["report"], "ssl_pkg"])
    line = [python, "-P", "-c", FIND_MISSING, *needed]
    try:
        done = subprocess.run(line, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        why = output.strip().rpartition("\n")[2]
        return Findings(notes=[f"python: {python} does not start on this machine ({why}): it must start on the nodes"])
    missing = done.stdout.split()
    if not missing:
        return Findings()
    more = f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else ""
    text = f"python: {python} lacks packages that the stages need ({', '.join(missing[:SHOWN])}{more}): "
    install = f"{shlex.quote(python)} -m pip install --constraint requirements.lock --editable '.[train,report]'"
    text += f"run `{install}`, or name the Python of another environment"
    if profile.setup:
        return Findings(notes=[f"{text}, unless the `setup` lines add them"])
    return Findings([text])


def _environment(profile: Profile, errors: list[str], notes: list[str]) -> None:
    """Findings about jobs that start without the user's environment (--export)."""
    if reason := python_start_error():
        errors.append(f"{sys.executable} does not start in a job whose environment has only PATH: {reason}")
    export = profile.sbatch.get("export")
    words = str(export).upper().split(",")
    if export is not None and "ALL" not in words:  # with ALL, jobs get the whole environment
        those = "" if words in (["NONE"], ["NIL"]) else "these and "
        kept = ", ".join(KEPT_VARIABLES)
        notes.append(f"export: {export}: jobs get only {those}{kept}; set other variables in `setup`")


def _nodes() -> list[_Node]:
    lines = slurm_output("sinfo", "-h", "-N", "-o", "%P|%l|%c|%m|%a|%T|%E").splitlines()
    rows = [line.split("|", 6) for line in lines if _NODE.match(line)]  # any other line is a site's own message
    return [
        _Node(
            name.rstrip("*"),
            name.endswith("*"),
            parse_minutes(limit),
            int(cpus),
            int(memory),
            up == "up",
            state,
            reason,
        )
        for name, limit, cpus, memory, up, state, reason in rows
    ]


def _partitions(profile: Profile, nodes: list[_Node]) -> list[str]:
    """The partitions from which SLURM may choose."""
    return profile.partition.split(",") if profile.partition else sorted({n.partition for n in nodes if n.default})


def _unavailable_nodes(profile: Profile, nodes: list[_Node]) -> list[str]:
    """A note if no node of the partitions accepts jobs now."""
    names = _partitions(profile, nodes)
    candidates = [node for node in nodes if node.partition in names]
    if not candidates or any(node.usable and node.up for node in candidates):
        return []
    if not any(node.up for node in candidates):
        return [
            f"partition {', '.join(names)} is down: `ssl-study submit` works, but jobs wait in the queue until it is up"
        ]
    why = ", ".join(sorted({node.reason for node in candidates} - {"none"}))
    states = " or ".join(sorted({node.state for node in candidates}))
    return [
        f"all {len(candidates)} nodes of {', '.join(names)} are {states}"
        + (f" ({why})" if why else "")
        + ": `ssl-study submit` works, but jobs wait in the queue until a node is available"
    ]


def _calls_for_studies(profile: Profile, config: dict[str, str]) -> list[str]:
    """A note about the studies that have more runs than SLURM accepts at once."""
    limits = submit_limits(profile, config)
    if not limits:
        return []
    if not limits[0].jobs:
        return [f"{limits[0]}: `ssl-study submit` can submit no run"]
    sizes = {}
    for study in studies():
        planned = configure(study, data=SYNTHETIC, seeds=None, overrides=())
        sizes[study] = len(plan(planned.study, runs=NO_FOLDER, reports=NO_FOLDER, data_root=SYNTHETIC))
    large = {study: calls_needed(limits[0], runs) for study, runs in sizes.items() if runs > limits[0].jobs}
    if not large:
        return []
    needed = ", ".join(f"{study} ({sizes[study]} jobs) needs {calls} calls" for study, calls in large.items())
    return [
        f"{limits[0]}: {needed} of `submit`, each after the jobs of the last call have ended. "
        "`ssl-study submit --wait` (make: WAIT=1) makes all calls"
    ]


def _insufficient_resources(profile: Profile, nodes: list[_Node]) -> list[str]:
    """Errors: what the profile asks for and a partition does not have."""
    names = _partitions(profile, nodes)
    if not names:
        return ["partition: the cluster has no default partition, so the profile must name one"]
    found = []
    for name in names:
        candidates = [node for node in nodes if node.partition == name]
        if not candidates:
            known = ", ".join(sorted({node.partition for node in nodes}))
            found.append(f"partition: there is no {name}: the partitions are {known}")
            continue
        limit = candidates[0].minutes
        if limit is not None and profile.minutes > limit:
            found.append(f"minutes: {profile.minutes}, but partition {name} allows {limit}")
        cpus = profile.cpus * profile.processes
        memory = profile.memory.on_node(cpus, profile.gpus) if profile.memory else 0.0
        large = [node for node in candidates if node.cpus >= cpus]
        if not large:
            most = max(node.cpus for node in candidates)
            found.append(
                f"cpus: {profile.cpus} x {profile.processes} processes per node, but the nodes of partition {name} "
                f"have at most {most}"
            )
        elif not [node for node in large if node.memory_mb >= memory * 1024]:
            most = max(node.memory_mb for node in large) // 1024
            found.append(f"memory: {memory:g} GB per node, but the nodes of partition {name} have at most {most}")
        elif len(candidates) < profile.nodes:
            found.append(f"nodes: {profile.nodes}, but partition {name} has {len(candidates)}")
    return found


def _test_submission(profile: Profile, *, unavailable: bool) -> tuple[list[str], list[str]]:
    """Errors and notes of `sbatch --test-only` for a pretraining: accounts, QOS, constraints, memory, limits.

    unavailable: no node accepts jobs now. Then --test-only may refuse a job that sbatch accepts.
    """
    words = {"signal": f"USR2@{profile.signal_seconds}"} | sbatch_options(profile, "pretrain")
    line = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in words.items()]
    done = run_slurm("sbatch", "--test-only", *line, "--wrap=true")
    errors = [text.strip() for text in done.stderr.splitlines() if text.strip() and not text.startswith("Try ")]
    if done.returncode == 0 or (unavailable and errors and CONFIGURATION_UNAVAILABLE in errors[-1]):
        return [], []
    if reached := limit_reached(done.stderr):
        return [], [f"you have reached your job limit ({reached}): submit when some of your jobs have ended"]
    return [f"sbatch refuses: {errors[-1].removeprefix('allocation failure: ') if errors else done.returncode}"], []


def _cluster_notes(config: dict[str, str]) -> list[str]:
    found = []
    if "none" in config.get("AccountingStorageType", "none"):
        found.append(
            "no accounting: sacct does not know how jobs ended, so `ssl-study status` reads it from the runs' logs"
        )
    preempts = config.get("PreemptType", "preempt/none") not in ("preempt/none", "(null)")
    if preempts and "preempt_send_user_signal" not in config.get("SlurmctldParameters", ""):
        found.append("preemption sends only SIGTERM: runs must write their checkpoint within the partition's GraceTime")
    if preempts and "REQUEUE" not in config.get("PreemptMode", ""):
        found.append(
            f"preemption does not requeue (PreemptMode={config.get('PreemptMode')}): submit preempted runs again"
        )
    if config.get("JobRequeue") == "0":
        found.append("the cluster requeues no job after a node failure (JobRequeue=0); this project's jobs ask for it")
    return found


def parse_minutes(limit: str) -> int | None:
    """Minutes of a time in SLURM's format days-hours:minutes:seconds; None if there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if not found:
        return None
    days, hours, rest, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + rest
