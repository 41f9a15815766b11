"""The optional parts of an installation, which `pip install '.[train]'` and `make setup EXTRAS=submit` choose."""

import importlib.util
import shlex
import sys
from typing import Final

from ssl_pkg.errors import BAD_INPUT, BadInput

MODULES: Final = {  # of each part's packages in pyproject.toml
    "train": (
        "torch", "torchvision", "numba", "PIL", "imagehash", "safetensors", "scipy", "sklearn", "openTSNE",
        "threadpoolctl", "tensorboard",
    ),
    "submit": ("submitit",),
    "report": ("pandas", "matplotlib", "PIL", "typst", "scipy", "plotly", "babel"),
    "bench": ("lightly",),
}  # fmt: skip


def require(*extras: str) -> None:
    """Raises BadInput, with the remedy, if the installation lacks a package of `extras`. Imports none of them."""
    lacking = {extra: missing for extra in extras if (missing := _missing(extra))}
    if lacking:
        modules = dict.fromkeys(name for missing in lacking.values() for name in missing)
        raise BadInput(f"{sys.prefix} lacks the packages of this command ({', '.join(modules)}): {_install(*lacking)}")


def lacking_text(module: str) -> str:
    """The sentence about a package that can't be imported, with the remedy."""
    if sys.prefix == sys.base_prefix:  # not a virtual environment, so that packages should not be installed here
        remedy = "in the project's folder, run `make setup`, then use .venv/bin/ssl-study"
    else:
        top = module.partition(".")[0]
        remedy = _install(*(extra for extra in MODULES if top in MODULES[extra] or not _missing(extra)))
    return f"{sys.prefix} lacks the package {module}: {remedy}"


def require_or_exit(*extras: str) -> None:
    """`require` for the top of a module that is run by `python -m`: exits with the sentence on stderr and status 2."""
    try:
        require(*extras)
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_INPUT)


def _missing(extra: str) -> list[str]:
    return [name for name in MODULES[extra] if importlib.util.find_spec(name) is None]


def _install(*extras: str) -> str:
    """What to do to install the project with these extras."""
    project = f"'.[{','.join(extras)}]'" if extras else "."
    line = f"{shlex.quote(sys.executable)} -m pip install --constraint requirements.lock --editable {project}"
    return f"in the project's folder, run `{line}`"
