"""The presets in `ssl_pkg/conf`: studies, budgets and methods, one file NAME.yaml each. Imports little.

The second line of a study's file is a comment that says what the study is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

CONF: Final = Path(__file__).parents[1] / "conf"


def studies() -> dict[str, str]:
    """The names of the studies, sorted, and a sentence about each."""
    files = sorted((CONF / "study").glob("*.yaml"), key=lambda file: file.stem)
    return {file.stem: file.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ") for file in files}


def budgets() -> list[str]:
    """The names of the budgets, sorted."""
    return sorted(file.stem for file in (CONF / "budget").glob("*.yaml"))


def methods() -> list[str]:
    """The names of the methods, sorted."""
    return sorted(file.stem for file in (CONF / "method").glob("*.yaml"))


def is_reduced(budget: Mapping[str, Any]) -> bool:
    """Whether a budget, as config.yaml has it, has smaller images, fewer epochs or fewer steps than `full`."""
    full = _read("budget", "full")["budget"]
    smaller = any(budget.get(key, full[key]) < full[key] for key in ("resolution", "ssl_epochs"))
    return smaller or budget.get("max_steps") is not None


def method_titles() -> dict[str, str]:
    """The title of each method, such as `MoCo v2`."""
    return {name: _read("method", name)["title"] for name in methods()}


def _read(kind: str, name: str) -> Any:
    return yaml.safe_load((CONF / kind / f"{name}.yaml").read_text(encoding="utf-8"))
