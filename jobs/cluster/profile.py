"""Cluster profiles: a YAML file in slurm/profiles says what jobs ask of a cluster."""

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
from ssl_pkg.config.overrides import expand_path
from ssl_pkg.errors import BadInput
from ssl_pkg.messages.faults import fault_text
from ssl_pkg.messages.nearest import hint

LOCAL: Final = "local"  # the profile of this machine, without SLURM
RESERVED_OPTIONS: Final = (
    "array", "clusters", "dependency", "error", "export-file", "job-name", "no-requeue", "open-mode", "output",
    "parsable", "signal", "test-only", "wait", "wrap",
)  # fmt: skip
# Users' variables that set a field which the profile leaves out.
USER_VARIABLES: Final = {"partition": "SBATCH_PARTITION", "account": "SBATCH_ACCOUNT", "qos": "SBATCH_QOS"}
RESERVATION: Final = "SBATCH_RESERVATION"
PROFILES: Final = Path(slurm.__path__[0]) / "profiles"


class _Loader(yaml.SafeLoader):
    """Reads `1:30` and `2026-01-01` as text. In YAML 1.1 they are a number in base 60, and a date."""


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
    """A profile, or a section of one. A field that is null counts as missing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


Lines = Annotated[tuple[str, ...], BeforeValidator(_lines)]  # a single one may be given without a list
Gigabytes = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class Container(_Fields):
    """The container of the stages. The submission, and the supervisor on the nodes, run outside the container."""

    backend: Literal["docker", "podman", "apptainer", "pyxis"]
    image: str  # a tag, or the path of a sandbox folder, SIF or squashfs file
    binds: Lines = ()  # folders to mount, besides those of the runs, the report, the images and the cache
    options: Lines = ()  # options of the client

    def client(self) -> tuple[str, ...]:
        """The beginning of a command line. The command in the container follows."""
        binds = [f"--bind={folder}" for folder in self.binds]
        options = [f"--option={word}" for word in self.options]
        program = (sys.executable, "-P", "-m", "jobs.cluster.container")
        image = (f"--backend={self.backend}", f"--image={self.image}")
        return (*program, *image, *binds, *options, "--")


class Memory(_Fields):
    """The memory of a job in GB, in one of three units, because sites differ in the options that they accept."""

    per_node: Gigabytes | None = None
    per_cpu: Gigabytes | None = None
    per_gpu: Gigabytes | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give one of per_node, per_cpu and per_gpu, in GB, or no memory if the site forbids it")
        return self

    def on_node(self, cpus: int, gpus: int) -> float:
        """The memory in GB of a job that has these CPUs and GPUs on a node."""
        return self.per_node or (self.per_cpu or 0.0) * cpus or (self.per_gpu or 0.0) * gpus

    def options(self, gpus: int) -> dict[str, str]:
        """sbatch's options for a job with these GPUs on a node. per_gpu applies only to jobs with a GPU."""
        kinds = {"mem": self.per_node, "mem_per_cpu": self.per_cpu, "mem_per_gpu": self.per_gpu if gpus else None}
        return {option: f"{round(gb * 1024)}M" for option, gb in kinds.items() if gb}


def _memory(given: Any) -> Any:
    if isinstance(given, int | float | str):
        raise ValueError(f"give the unit, like {{per_node: {given}}} (or per_cpu, per_gpu), in GB")
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
            raise ValueError(f"{name} is {value}: give text, a whole number or true, or null to omit the option")
    return given


class Profile(_Fields):
    """What the jobs of a study ask of a cluster. None leaves the choice to the cluster."""

    name: str
    conf: str | None = None  # the path of another cluster's slurm.conf, relative to the project's folder
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpus: NonNegativeInt = 0  # of a pretraining, per node; other stages get one, if this is not 0
    cpus: PositiveInt  # per process
    memory: Annotated[Memory | None, BeforeValidator(_memory)] = None  # None: the site's default
    # of one start; a job that needs more is requeued and resumes
    minutes: Annotated[PositiveInt, BeforeValidator(_minutes)]
    nodes: PositiveInt = 1  # of a pretraining; other stages have one process
    processes: PositiveInt = 1  # of a pretraining, per node
    at_once: PositiveInt | None = None  # maximum number of running tasks of an array
    signal_seconds: PositiveInt = Field(120, validate_default=True)  # from the signal to the time limit
    python: str | None = None  # of the stages, on the nodes, relative to the folder that submits; None: submit's own
    container: Container | None = None
    setup: Lines = ()  # shell commands that run first on the node
    copy_data_to: str | None = None  # a folder on the node's own disk, like $TMPDIR/data
    # sbatch's options; None removes one of this project's
    sbatch: Annotated[dict[str, str | int | bool | None], BeforeValidator(_options)] = Field(default_factory=dict)

    @field_validator("processes")
    @classmethod
    def _has_gpus(cls, processes: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", 0)
        if gpus and processes > gpus:
            raise ValueError(f"{processes} processes on a node need as many GPUs, and it has gpus: {gpus}")
        return processes

    @field_validator("memory")
    @classmethod
    def _has_a_gpu(cls, memory: Memory | None, info: ValidationInfo) -> Memory | None:
        if memory and memory.per_gpu and not info.data.get("gpus"):
            raise ValueError("per_gpu needs a profile with gpus: give per_node or per_cpu")
        return memory

    @field_validator("sbatch")
    @classmethod
    def _leaves_ours(
        cls, given: dict[str, str | int | bool | None], info: ValidationInfo
    ) -> dict[str, str | int | bool | None]:
        own = {"nodes": "nodes", "ntasks": "processes", "ntasks-per-node": "processes", "cpus-per-task": "cpus"}
        several = {"nodes": info.data.get("nodes", 1), "ntasks-per-node": info.data.get("processes", 1)}
        for name, value in given.items():
            option = name.replace("_", "-")
            if option in RESERVED_OPTIONS:
                raise ValueError(f"{name} is set by this project: leave it out")
            if value is not None and option in own:  # it would apply to the stages that have one process, too
                raise ValueError(f"{name} is the profile's field `{own[option]}`: give that instead")
            if value is None and several.get(option, 1) > 1:
                raise ValueError(f"{name} can't be null, because the profile asks for several nodes or processes")
            if value == "":
                raise ValueError(f"{name} is empty: give a value, or null to omit the option")
        return {name.replace("_", "-"): value for name, value in given.items() if value is not False}

    @field_validator("setup")
    @classmethod
    def _has_whole_entries(cls, setup: tuple[str, ...]) -> tuple[str, ...]:
        for number, entry in enumerate(setup, 1):
            if error := syntax_error(entry):
                raise ValueError(
                    f"entry {number} is not a complete command ({error}): write a block of several lines as one entry, "
                    f"after YAML's `|`: {entry.strip().partition(chr(10))[0]}"
                )
        return setup

    @field_validator("signal_seconds")
    @classmethod
    def _leaves_time(cls, seconds: int, info: ValidationInfo) -> int:
        if seconds >= 60 * info.data.get("minutes", seconds):
            raise ValueError("the signal would come before a start has begun: give less than the time limit")
        return seconds


def profiles() -> list[str]:
    """The names of the profiles in slurm/profiles."""
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """Loads the profile `name`, or a YAML file. Raises BadInput.

    Fields that the profile leaves out are taken from the user's SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_QOS and
    SBATCH_RESERVATION.
    """
    file = Path(expand_path("NAME", name, "file")) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise BadInput(_missing_profile(name, file)) from error
    except (OSError, yaml.YAMLError, ValueError) as error:  # PyYAML raises ValueError for a number like `0b_`
        raise BadInput(f"{file} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{file} is not a profile: it must have lines like `cpus: 8`")
    if "name" in content:
        raise BadInput(f"{file}: there is no field name: the file's name is the profile's name")
    try:
        return Profile.model_validate({"name": file.stem, **_with_user_choices(content)})
    except ValidationError as error:
        # first an unknown field, because it may be a misspelt one that is then missing
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            models: dict[object, type[BaseModel]] = {"container": Container, "memory": Memory}
            model = models.get(first["loc"][0], Profile)
            known, nearest = ", ".join(model.model_fields), hint(str(first["loc"][-1]), model.model_fields)
            raise BadInput(f"{file}: there is no field {field}{nearest}: the fields are {known}") from error
        if first["type"] == "missing":
            raise BadInput(
                f"{file} lacks {field}: add a line that begins with `{field.rpartition('.')[2]}:`"
            ) from error
        message = fault_text(first["msg"])
        raise BadInput(f"{file}: {field}: {message[:1].lower() + message[1:]}") from error


def _missing_profile(name: str, file: Path) -> str:
    """The error about a missing file. For a profile's name it says where to write the file."""
    nearest = hint(file.stem, profiles())
    if name.endswith((".yaml", ".yml")):
        return f"there is no profile file {file.absolute()}{nearest}: write it, or name one of {', '.join(profiles())}"
    return (
        f"there is no cluster profile {name!r}{nearest}: choose one of {', '.join(profiles())}, "
        f"write {file}, or give the path of a YAML file"
    )


def _with_user_choices(content: dict[str, Any]) -> dict[str, Any]:
    """A profile's content, with the user's variables for missing fields."""
    chosen = {
        field: os.environ.get(variable) for field, variable in USER_VARIABLES.items() if content.get(field) is None
    }
    content = content | {field: value for field, value in chosen.items() if value}
    reservation, options = os.environ.get(RESERVATION), content.get("sbatch") or {}
    if reservation and isinstance(options, dict) and "reservation" not in options:
        content["sbatch"] = {**options, "reservation": reservation}
    return content


def select_cluster(profile: Profile) -> None:
    """Sets SLURM_CONF to the profile's cluster, unless it is set. Raises BadInput if that slurm.conf does not exist."""
    if profile.conf:
        conf = PROFILES.parent.parent / profile.conf
        if "SLURM_CONF" not in os.environ and not conf.exists():
            raise BadInput(
                f"profile {profile.name}: conf: {conf} does not exist (`make slurm-up` creates the testbed's)"
            )
        os.environ.setdefault("SLURM_CONF", str(conf))


def profile_fields(profile: Profile) -> dict[str, Any]:
    """The fields that have a value, including defaults."""
    return {name: value for name, value in profile.model_dump(exclude_none=True).items() if value not in ((), {})}
