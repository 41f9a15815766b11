"""What a run was made with, so that it can be repeated."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ssl_pkg.distributed.collectives import world_size
from ssl_pkg.hardware.prepare import Hardware

PACKAGES: Final = ("torch", "torchvision", "numpy", "numba", "scikit-learn", "hydra-core")
COMMIT_VARIABLE: Final = "SSL_STUDY_COMMIT"  # set in the image, because the image has no git checkout


class Start(TypedDict):
    """The code and the machine of one start of a run."""

    commit: str
    versions: dict[str, str]
    hardware: dict[str, str | int]
    host: str
    world_size: int


def provenance(hardware: Hardware, data: dict[str, Any], earlier: list[Start], resumes: int) -> dict[str, Any]:
    """The content of `provenance.json`: this start, the data's manifest, and the list of all different starts.

    earlier: the starts before this one that contributed to the checkpoint. resumes: how often the run was resumed.
    """
    now = Start(
        commit=commit_at_start(),
        versions=versions_at_start(),
        hardware=hardware.describe(),
        host=platform.node(),
        world_size=world_size(),
    )
    starts = [*(start for start in earlier if start != now), now]
    return {**now, "data": data, "resumes": resumes, "starts": starts}


def starts_of(content: dict[str, Any] | None) -> list[Start]:
    """The starts in the content of a `provenance.json`, the last one last. Empty if it is missing or damaged."""
    try:
        return TypeAdapter(list[Start]).validate_python((content or {}).get("starts"), strict=True)
    except ValidationError:
        return []


def resumes_of(content: dict[str, Any] | None) -> int:
    """How often the run was resumed, by the content of its `provenance.json`. 0 if that is missing or damaged."""
    resumes = (content or {}).get("resumes")
    return resumes if type(resumes) is int and resumes > 0 else 0


def differences(before: Start, now: Mapping[str, Any]) -> str:
    """The differences between two starts that can change the result's bits, in words. Empty if there are none."""
    pairs = {"commit": (before["commit"], now["commit"])}
    for part in ("versions", "hardware"):
        names = dict.fromkeys((*before[part], *now[part]))
        pairs |= {name: (before[part].get(name), now[part].get(name)) for name in names if name != "threads"}
    return ", ".join(f"{name} {new} instead of {old}" for name, (old, new) in pairs.items() if old != new)


@cache
def versions_at_start() -> dict[str, str]:
    """The versions of Python and of the packages that compute, at this process's first call."""
    packages = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version()} | packages


@cache
def commit_at_start() -> str:
    """`commit` at this process's first call. The files may change later, but not the code that runs."""
    return commit()


def commit(package: Path = Path(__file__).parents[1]) -> str:
    """The checkout's commit, with "+changes" appended if a tracked file differs, or if the package has a new file.

    package: the folder of the package. A new file in it can be a new method. Outside a checkout: "unknown".
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        found = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10)
        return found.stdout.strip()

    try:
        name = git("describe", "--always", "--abbrev=12", "--exclude=*")
        changed = git("diff", "HEAD", "--name-only") or git("ls-files", "--others", "--exclude-standard")
        return f"{name}+changes" if changed else name
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(COMMIT_VARIABLE, "unknown")
