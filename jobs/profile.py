"""Cluster profiles: what this project must know of a cluster, one YAML file each in slurm/profiles."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)

import slurm
from ssl_pkg.errors import BadInput

LOCAL: Final = "local"  # the profile of this machine, where no SLURM is asked
OURS: Final = (
    "array", "clusters", "comment", "dependency", "error", "job-name", "no-requeue", "open-mode", "output", "parsable",
    "requeue", "signal", "test-only", "wait", "wrap",
)  # fmt: skip
FOLDER: Final = Path(slurm.__path__[0]) / "profiles"


class Container(BaseModel):
    """What the stages of a cluster run in. What submits, and what waits on the nodes, runs outside."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["docker", "podman", "apptainer", "pyxis"]
    image: str  # a tag, or the path of a sandbox folder, a SIF or a squashfs file
    binds: tuple[str, ...] = ()  # folders beside those of the runs, the report, the images and the cache
    options: tuple[str, ...] = ()  # words for the client, passed on as they are

    def client(self) -> tuple[str, ...]:
        """The beginning of a command line; what the image is to do follows."""
        binds = [f"--bind={folder}" for folder in self.binds]
        options = [f"--option={word}" for word in self.options]
        program = (sys.executable, "-P", "-m", "slurm.container", f"--backend={self.backend}", f"--image={self.image}")
        return (*program, *binds, *options, "--")


class Profile(BaseModel):
    """What every job of a study asks of a cluster. Sizes of one node; None leaves a choice to the cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    conf: str | None = None  # slurm.conf of a cluster that is not this machine's own, from the project's folder on
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: NonNegativeInt = 0  # of a pretraining, on each of its nodes; of the other stages one, if there are any
    cpus: PositiveInt  # of one process
    memory_gb: PositiveFloat
    minutes: PositiveInt  # of one start: a job that needs more goes on in the next
    nodes: PositiveInt = 1  # of a pretraining; the other stages are one process
    processes: PositiveInt = 1  # of a pretraining, on each of its nodes
    at_once: PositiveInt | None = None  # most runs of one array at a time
    signal_seconds: PositiveInt = Field(120, validate_default=True)  # from the signal to the end of the time limit
    python: str | None = None  # of the stages, as the node's shell finds it; without it the one that submits
    container: Annotated[Container | None, BeforeValidator(lambda given: None if given == "none" else given)] = None
    setup: tuple[str, ...] = ()  # lines of shell before anything else on the node
    copy_data_to: str | None = None  # a folder on the node's own disk, like $TMPDIR/data
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict)  # passed on as they are

    @field_validator("processes")
    @classmethod
    def _has_gpus(cls, processes: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", 0)
        if gpus and processes > gpus:
            raise ValueError(f"{processes} processes of a node can't share its GPUs (gpus: {gpus}), one is for one")
        return processes

    @field_validator("sbatch")
    @classmethod
    def _leaves_ours(cls, given: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        ours = [name for name in given if name.replace("_", "-") in OURS]
        if ours:
            raise ValueError(f"{ours[0]} is what this project tells its jobs by: leave it out")
        return {name: value for name, value in given.items() if value is not False}

    @field_validator("signal_seconds")
    @classmethod
    def _leaves_time(cls, seconds: int, info: ValidationInfo) -> int:
        if seconds >= 60 * info.data.get("minutes", seconds):
            raise ValueError("the signal would come before a start has begun its work: it counts from the limit's end")
        return seconds


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
        if first["type"] == "extra_forbidden":
            known = ", ".join((Container if first["loc"][0] == "container" else Profile).model_fields)
            raise BadInput(f"{file}: there is no field {field}: there are {known}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{file}: {field}: {message[:1].lower() + message[1:]}") from error


def reach(profile: Profile) -> None:
    """Makes SLURM's commands reach the profile's cluster, unless the environment names another. Raises BadInput where
    there is none."""
    if profile.conf:
        conf = FOLDER.parent.parent / profile.conf
        if "SLURM_CONF" not in os.environ and not conf.exists():
            raise BadInput(f"{profile.name}: its conf, {conf}, is not there (the testbed's comes with `make slurm-up`)")
        os.environ.setdefault("SLURM_CONF", str(conf))


def shown(profile: Profile) -> dict[str, Any]:
    """The fields as they hold, for a person to read."""
    return profile.model_dump(exclude_none=True)
