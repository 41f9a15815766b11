"""Runs the stage that the command line names, or finds its run complete."""

import importlib
from contextlib import suppress
from pathlib import Path

from ssl_pkg.catalogue import STAGES
from ssl_pkg.config.compose import load_config, refuse_unread
from ssl_pkg.config.overrides import key_of
from ssl_pkg.config.presets import budgets, methods, studies
from ssl_pkg.errors import Done
from ssl_pkg.extras import require
from ssl_pkg.run.compatibility import (
    free_when_complete,
    refuse_difference,
    refuse_lost_weights,
    refuse_other_data,
    refuse_other_source,
)
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.run.source import inherit


def choices() -> dict[str, str]:
    """The names that the help lists."""
    names = {"stages": STAGES, "methods": methods(), "studies": studies(), "budgets": budgets()}
    return {kind: " | ".join(found) for kind, found in names.items()}


def run(arguments: list[str], interrupt_flag: InterruptFlag) -> str:
    """Completes the run. Returns its directory.

    Raises BadInput, Interrupted, Diverged, Busy and OSError as the stage does. Raises BadInput as well if the directory
    holds a complete run with another configuration or other inputs.
    """
    config = load_config(arguments)
    refuse_unread(config, arguments)
    directory = RunDirectory(Path(config.run_dir))
    config = inherit(config, set(map(key_of, arguments)), directory)
    if not directory.complete:
        require("train")
        with suppress(Done):
            importlib.import_module(f"ssl_pkg.stages.{config.stage}").run(config, interrupt_flag)
            return config.run_dir
    refuse_difference(directory, config.relevant(), free=free_when_complete(config))
    refuse_lost_weights(directory)
    refuse_other_source(directory, config)
    refuse_other_data(directory, config)
    return config.run_dir
