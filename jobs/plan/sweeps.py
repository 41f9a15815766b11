"""Sweeps: overrides with several values, and the names of their runs."""

import itertools
import re
from collections.abc import Sequence
from typing import Final

from hydra.errors import HydraException

from ssl_pkg.catalogue import STAGES
from ssl_pkg.config.compose import parse_override
from ssl_pkg.config.overrides import key_of
from ssl_pkg.errors import BadInput, interrupts_first

LONGEST: Final = 160  # bytes of a variant; a file name has at most 255, and stage, model and seed come first


@interrupts_first()
def expand_sweep(overrides: Sequence[str]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Splits overrides into those of every run and the combinations of the swept values.

    Without a sweep there is one combination, which is empty. Raises BadInput.
    """
    fixed: list[str] = []
    swept: list[list[str]] = []
    for override in overrides:
        parsed = parse_override(override)
        try:
            values = list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else []
        except HydraException as error:
            raise BadInput(f"{override!r} is not a list of values ({error}): give KEY=A,B") from error
        if values:
            swept.append([f"{override.partition('=')[0]}={value}" for value in dict.fromkeys(values)])
        else:
            fixed.append(override)
    choices = list(itertools.product(*swept))
    for values in swept:
        key = key_of(values[0])
        if key.partition(".")[0] == "study":
            raise BadInput(f"{key} can't be swept, because all runs of a study share it: run one study for each value")
    named: dict[str, tuple[str, ...]] = {}
    for choice in choices:
        if len(variant_of(choice).encode()) > LONGEST:
            raise BadInput(
                f"the variants of {key_of(choice[0])} would be longer than {LONGEST} bytes: give shorter values"
            )
        other = named.setdefault(variant_of(choice), choice)
        if other != choice:
            raise BadInput(f"{' '.join(other)} and {' '.join(choice)} would have the same name, {variant_of(choice)}")
    return tuple(fixed), choices


def variant_of(choice: Sequence[str]) -> str:
    """A short name that can be a folder's name, e.g. `temperature=0.1` for `method.model.temperature=0.1`."""
    keys = [key_of(override) for override in choice]
    lasts = [key.rpartition(".")[2] for key in keys]
    words = []
    for override, key, last in zip(choice, keys, lasts, strict=True):
        value = re.sub(r"[^\w.+]+", "_", override.partition("=")[2]).strip("_")
        words.append(f"{key if lasts.count(last) > 1 else last}={value}")
    return ",".join(words)


def reads(stage: str, override: str) -> bool:
    """Whether `stage` reads the field that `override` sets. Only the planner reads `study`."""
    key = key_of(override)
    return key.partition(".")[0] != "study" and STAGES[stage].reads(key)
