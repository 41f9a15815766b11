"""The optional parts of an installation, which `pip install '.[train]'` and `make setup EXTRAS=submit` choose."""

import importlib.util
import sys
from typing import Final

from ssl_pkg.errors import BadInput

_MODULES: Final = {"train": "torch", "submit": "submitit", "report": "typst"}  # one of each part's packages


def require(*extras: str) -> None:
    """Raises BadInput, with the remedy, if the installation lacks one of `extras`. Imports none of their packages."""
    missing = [extra for extra in extras if importlib.util.find_spec(_MODULES[extra]) is None]
    if missing:
        raise BadInput(
            f"{sys.prefix} lacks the packages of this command: in the project's folder, run `{sys.executable} -m pip "
            f"install --constraint requirements.lock --editable '.[{','.join(missing)}]'`"
        )
