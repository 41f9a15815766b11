"""What a run was made with: enough to make it again."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Final

from ssl_pkg.models.ranks import world_size
from ssl_pkg.training.precision import Hardware

PACKAGES: Final = ("torch", "torchvision", "numpy", "scikit-learn", "hydra-core")
COMMIT_VARIABLE: Final = "SSL_STUDY_COMMIT"  # set in the image, which holds no git checkout


def provenance(hardware: Hardware, data: dict[str, Any]) -> dict[str, Any]:
    """Content of `provenance.json`."""
    return {
        "commit": commit(),
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "data": data,
        "hardware": hardware.describe(),
        "host": platform.node(),
        "world_size": world_size(),
    }


def commit() -> str:
    """The checkout's commit, with "+changes" if the working tree differs from it; "unknown" outside a checkout."""
    folder = Path(__file__).parent
    try:
        git = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+changes", "--exclude=*"]
        found = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
        return found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(COMMIT_VARIABLE, "unknown")
