"""Cluster profiles: what this project must know of a cluster, one YAML file each in slurm/profiles."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

import slurm
from jobs.cluster.batch_script import syntax_error
from ssl_pkg.errors import BadInput
from ssl_pkg.nearest import hint

LOCAL: Final = "local"  # the profile of this machine, where no SLURM is asked
RESERVED_OPTIONS: Final = (
    "array", "clusters", "dependency", "error", "export-file", "job-name", "no-requeue", "open-mode", "output",
    "parsable", "signal", "test-only", "wait", "wrap",
)  # fmt: skip
# the user's variables that choose where a job goes and who pays; a profile's own word outweighs them
USER_VARIABLES: Final = {"partition": "SBATCH_PARTITION", "account": "SBATCH_ACCOUNT", "qos": "SBATCH_QOS"}
RESERVATION: Final = "SBATCH_RESERVATION"
PROFILES: Final = Path(slurm.__path__[0]) / "profiles"


class _Loader(yaml.SafeLoader):
    """YAML in which `1:30` and `2026-01-01` are text. YAML 1.1 reads numbers of base 60, and dates."""


def _text(loader: _Loader, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    if ":" in node.value:
        return _text(loader, node)
    return loader.construct_yaml_int(node) if node.tag.endswith("int") else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)


def _lines(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


class _Fields(BaseModel):
    """A part of a profile; a field that is null is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


Lines = Annotated[tuple[str, ...], BeforeValidator(_lines)]  # one may be given without a list
Gigabytes = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class Container(_Fields):
    """What the stages of a cluster run in. What submits, and what waits on the nodes, runs outside."""

    backend: Literal["docker", "podman", "apptainer", "pyxis"]
    image: str  # a tag, or the path of a sandbox folder, a SIF or a squashfs file
    binds: Lines = ()  # folders beside those of the runs, the report, the images and the cache
    options: Lines = ()  # words for the client, passed on as they are

    def client(self) -> tuple[str, ...]:
        """The beginning of a command line; what the image is to do follows."""
        binds = [f"--bind={folder}" for folder in self.binds]
        options = [f"--option={word}" for word in self.options]
        program = (
            sys.executable,
            "-P",
            "-m",
            "jobs.cluster.container",
            f"--backend={self.backend}",
            f"--image={self.image}",
        )
        return (*program, *binds, *options, "--")


class Memory(_Fields):
    """The memory of a job in GB, of one kind; sites differ in which they take."""

    per_node: Gigabytes | None = None
    per_cpu: Gigabytes | None = None
    per_gpu: Gigabytes | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give one of per_node, per_cpu and per_gpu, in GB, or no memory where a site forbids it")
        return self

    def on_node(self, cpus: int, gpus: int) -> float:
        """What a job with these CPUs and GPUs on a node needs there, in GB."""
        return self.per_node or (self.per_cpu or 0.0) * cpus or (self.per_gpu or 0.0) * gpus

    def options(self, gpus: int) -> dict[str, str]:
        """sbatch's options for a job with these GPUs on a node; memory for each GPU needs one."""
        kinds = {"mem": self.per_node, "mem_per_cpu": self.per_cpu, "mem_per_gpu": self.per_gpu if gpus else None}
        return {option: f"{round(gb * 1024)}M" for option, gb in kinds.items() if gb}


def _none(given: Any) -> Any:
    return None if given == "none" else given


def _memory(given: Any) -> Any:
    if given in (False, "none"):
        return None
    if isinstance(given, int | float | str):
        raise ValueError(f"say of what it is, like {{per_node: {given}}} (or per_cpu, per_gpu), in GB")
    return given


def _minutes(given: Any) -> Any:
    if isinstance(given, str) and ":" in given:
        raise ValueError(f"give a whole number of minutes, like 90, not {given}")
    return given


def _options(given: Any) -> Any:
    if not isinstance(given, dict):
        raise ValueError("give sbatch's options by name, like {nice: 10}")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str | int | bool | None):
            raise ValueError(f"{name} is {value}: give a text, a whole number or true, or null to send no such option")
    return given


class Profile(_Fields):
    """What every job of a study asks of a cluster. Sizes of one node; None leaves a choice to the cluster."""

    name: str
    conf: str | None = None  # slurm.conf of a cluster that is not this machine's own, from the project's folder on
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: NonNegativeInt = 0  # of a pretraining, on each of its nodes; of the other stages one, if there are any
    cpus: PositiveInt  # of one process
    memory: Annotated[Memory | None, BeforeValidator(_memory)] = None  # without it the site's default
    minutes: Annotated[
        PositiveInt, BeforeValidator(_minutes)
    ]  # of one start: a job that needs more goes on in the next
    nodes: PositiveInt = 1  # of a pretraining; the other stages are one process
    processes: PositiveInt = 1  # of a pretraining, on each of its nodes
    at_once: PositiveInt | None = None  # most runs of one array at a time
    signal_seconds: PositiveInt = Field(120, validate_default=True)  # from the signal to the end of the time limit
    python: str | None = None  # of the stages, as the node's shell finds it; without it the one that submits
    container: Annotated[Container | None, BeforeValidator(_none)] = None
    setup: Lines = ()  # lines of shell before anything else on the node
    copy_data_to: str | None = None  # a folder on the node's own disk, like $TMPDIR/data
    sbatch: Annotated[dict[str, str | int | bool | None], BeforeValidator(_options)] = Field(
        default_factory=dict
    )  # passed on as they are; None drops the project's own

    @field_validator("processes")
    @classmethod
    def _has_gpus(cls, processes: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", 0)
        if gpus and processes > gpus:
            raise ValueError(f"{processes} processes of a node can't share its GPUs (gpus: {gpus}), one is for one")
        return processes

    @field_validator("memory")
    @classmethod
    def _has_a_gpu(cls, memory: Memory | None, info: ValidationInfo) -> Memory | None:
        if memory and memory.per_gpu and not info.data.get("gpus"):
            raise ValueError("per_gpu is for a profile with gpus: give per_node or per_cpu")
        return memory

    @field_validator("sbatch")
    @classmethod
    def _leaves_ours(
        cls, given: dict[str, str | int | bool | None], info: ValidationInfo
    ) -> dict[str, str | int | bool | None]:
        several = {"nodes": info.data.get("nodes", 1), "ntasks-per-node": info.data.get("processes", 1)}
        for name, value in given.items():
            option = name.replace("_", "-")
            if option in RESERVED_OPTIONS:
                raise ValueError(f"{name} is what this project tells its jobs by: leave it out")
            if value is None and several.get(option, 1) > 1:
                raise ValueError(f"{name} can't be dropped, because the profile asks for several nodes or processes")
            if value == "":
                raise ValueError(f"{name} is empty: give a value, or null to send no such option")
        return {name.replace("_", "-"): value for name, value in given.items() if value is not False}

    @field_validator("setup")
    @classmethod
    def _has_whole_entries(cls, setup: tuple[str, ...]) -> tuple[str, ...]:
        for number, entry in enumerate(setup, 1):
            if said := syntax_error(entry):
                raise ValueError(
                    f"entry {number} is not complete by itself ({said}): write a block of several lines as one entry, "
                    f"after YAML's `|`: {entry.strip().partition(chr(10))[0]}"
                )
        return setup

    @field_validator("signal_seconds")
    @classmethod
    def _leaves_time(cls, seconds: int, info: ValidationInfo) -> int:
        if seconds >= 60 * info.data.get("minutes", seconds):
            raise ValueError("the signal would come before a start has begun its work: it counts from the limit's end")
        return seconds


def profiles() -> list[str]:
    """The profiles that there are, by name."""
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """The profile of cluster `name`, or of a YAML file. What it leaves open is taken from the user's SBATCH_PARTITION,
    SBATCH_ACCOUNT, SBATCH_QOS and SBATCH_RESERVATION. Raises BadInput."""
    file = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise BadInput(_missing_profile(name, file)) from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{file} is no profile: it must hold lines like `cpus: 8`")
    try:
        return Profile.model_validate({"name": file.stem, **_with_user_choices(content)})
    except ValidationError as error:
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")  # it may be the missing one
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            models: dict[object, type[BaseModel]] = {"container": Container, "memory": Memory}
            model = models.get(first["loc"][0], Profile)
            known, nearest = ", ".join(model.model_fields), hint(str(first["loc"][-1]), model.model_fields)
            raise BadInput(f"{file}: there is no field {field}{nearest}: there are {known}") from error
        if first["type"] == "missing":
            raise BadInput(
                f"{file} lacks {field}: add a line that begins with `{field.rpartition('.')[2]}:`"
            ) from error
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{file}: {field}: {message[:1].lower() + message[1:]}") from error


def _missing_profile(name: str, file: Path) -> str:
    """The sentence about a file that is not there: a profile's name gives a place to write it, a path is one."""
    nearest = hint(file.stem, profiles())
    if name.endswith((".yaml", ".yml")):
        return f"there is no profile file {file.absolute()}{nearest}: write it, or name one of {', '.join(profiles())}"
    return (
        f"there is no cluster profile {name!r}{nearest}: choose one of {', '.join(profiles())}, "
        f"write {file}, or give the path of a YAML file"
    )


def _with_user_choices(content: dict[str, Any]) -> dict[str, Any]:
    """A profile's content with the user's choices where it leaves them open."""
    chosen = {
        field: os.environ.get(variable) for field, variable in USER_VARIABLES.items() if content.get(field) is None
    }
    content = content | {field: value for field, value in chosen.items() if value}
    reservation, options = os.environ.get(RESERVATION), content.get("sbatch") or {}
    if reservation and isinstance(options, dict) and "reservation" not in options:
        content["sbatch"] = {**options, "reservation": reservation}
    return content


def select_cluster(profile: Profile) -> None:
    """Makes SLURM's commands reach the profile's cluster, unless the environment names another. Raises BadInput where
    there is none."""
    if profile.conf:
        conf = PROFILES.parent.parent / profile.conf
        if "SLURM_CONF" not in os.environ and not conf.exists():
            raise BadInput(f"{profile.name}: its conf, {conf}, is not there (the testbed's comes with `make slurm-up`)")
        os.environ.setdefault("SLURM_CONF", str(conf))


def profile_fields(profile: Profile) -> dict[str, Any]:
    """The fields as they hold, for a person to read."""
    return profile.model_dump(exclude_none=True)
