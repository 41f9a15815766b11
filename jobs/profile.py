"""Cluster profiles: what this project must know of a cluster, one YAML file each in slurm/profiles."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

import slurm
from ssl_pkg.errors import BadInput

LOCAL: Final = "local"  # the profile of this machine, where no SLURM is asked
FOLDER: Final = Path(slurm.__path__[0]) / "profiles"


class Profile(BaseModel):
    """What every job of a study asks of a cluster. Sizes of one node; None leaves a choice to the cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    conf: str | None = None  # slurm.conf of a cluster that is not this machine's own, from the project's folder on
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: NonNegativeInt = 0
    cpus: PositiveInt  # of one process
    memory_gb: PositiveFloat
    minutes: PositiveInt  # of one start: a job that needs more goes on in the next
    nodes: PositiveInt = 1  # of a pretraining; the other stages are one process
    processes: PositiveInt = 1  # of a pretraining, on each of its nodes
    at_once: PositiveInt | None = None  # most runs of one array at a time
    signal_seconds: PositiveInt = 120  # from the signal to the end of the time limit
    python: str | None = None  # of the stages, as the node's shell finds it; without it the one that submits
    setup: tuple[str, ...] = ()  # lines of shell before anything else on the node
    copy_data_to: str | None = None  # a folder on the node's own disk, like $TMPDIR/data
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict)  # passed on as they are


def profiles() -> list[str]:
    """The profiles that there are, by name."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """The profile of cluster `name`, or of a YAML file. Raises BadInput."""
    file = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    try:
        content = yaml.safe_load(file.read_text())
    except FileNotFoundError as error:
        raise BadInput(
            f"there is no cluster profile {name!r}: choose one of {', '.join(profiles())}, "
            f"or write {FOLDER}/{name}.yaml"
        ) from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{file} is no profile: it must hold lines like `cpus: 8`")
    try:
        return Profile.model_validate({"name": file.stem, **content})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{file}: {field}: {first['msg'][:1].lower() + first['msg'][1:]}") from error


def reach(profile: Profile) -> None:
    """Makes SLURM's commands reach the profile's cluster, unless the environment names another."""
    if profile.conf:
        os.environ.setdefault("SLURM_CONF", str(FOLDER.parent.parent / profile.conf))


def lacks(profile: Profile) -> list[str]:
    """What the cluster at hand lacks of what the profile and this project want, in sentences."""
    reach(profile)
    missing = [tool for tool in ("sbatch", "srun", "squeue", "scontrol", "scancel") if shutil.which(tool) is None]
    if missing:
        return [
            f"{', '.join(missing)} not found: this is no login node of a SLURM cluster, or its module is not loaded"
        ]
    shown = _ask("scontrol", "show", "config")
    if shown is None:
        return ["`scontrol show config` gets no answer: the controller is away, or SLURM_CONF names another cluster"]
    config = dict(re.findall(r"^(\S+)\s*= (.*?)\s*$", shown, re.MULTILINE))
    found = [*_lacking_partition(profile, config), *_lacking_settings(config)]
    if profile.gpus and "gpu" not in config.get("GresTypes", ""):
        found.append(f"the profile asks for {profile.gpus} GPUs a node, and the cluster knows no GPUs (GresTypes)")
    return found


def _lacking_partition(profile: Profile, config: dict[str, str]) -> list[str]:
    listed = _ask("sinfo", "-h", "-o", "%R|%l|%c|%m") or ""
    rows = [line.split("|") for line in listed.splitlines() if line.count("|") == 3]
    if profile.partition is None:
        return []
    mine = [row for row in rows if row[0] == profile.partition]
    if not mine:
        return [f"there is no partition {profile.partition}: there are {', '.join(sorted({row[0] for row in rows}))}"]
    found = []
    limit = min((_minutes(row[1]) for row in mine), default=None, key=lambda minutes: minutes or 1 << 40)
    if limit is not None and profile.minutes > limit:
        found.append(f"minutes: {profile.minutes} is more than partition {profile.partition} allows ({limit})")
    most = max(int(row[2].rstrip("+")) for row in mine)
    if profile.cpus * profile.processes > most:
        found.append(f"cpus: {profile.cpus} x {profile.processes} a node, and the largest node has {most}")
    return found


def _lacking_settings(config: dict[str, str]) -> list[str]:
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


def _minutes(limit: str) -> int | None:
    """SLURM's days-hours:minutes:seconds in minutes; None if there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if not found:
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + minutes


def _ask(*line: str) -> str | None:
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def shown(profile: Profile) -> dict[str, Any]:
    """The fields as they hold, for a person to read."""
    return profile.model_dump(exclude_none=True)
