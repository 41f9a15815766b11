"""What the command line asks for: a stage is run, or found complete."""

import importlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from ssl_pkg.catalogue import STAGES
from ssl_pkg.compose import load_config, refuse_unread
from ssl_pkg.config import methods
from ssl_pkg.errors import Done
from ssl_pkg.overrides import key_of
from ssl_pkg.run.compatibility import (
    FREE,
    RESOLVED,
    refuse_difference,
    refuse_lost_weights,
    refuse_other_data,
    refuse_other_source,
)
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.run.source import inherit

CHOICES: Final = {"stages": " | ".join(STAGES), "methods": " | ".join(methods())}


def run(arguments: list[str], interrupt_flag: InterruptFlag) -> str:
    """Brings the run to completion; returns its directory.

    Raises BadInput, Interrupted, Busy and OSError as the stage does; also BadInput if the run is complete, but not the
    one that is asked for.
    """
    config = load_config(arguments)
    refuse_unread(config, arguments)
    directory = RunDirectory(Path(config.run_dir))
    config = inherit(config, set(map(key_of, arguments)), directory)
    if not directory.complete:
        with suppress(Done):
            importlib.import_module(f"ssl_pkg.stages.{config.stage}").run(config, interrupt_flag)
            return config.run_dir
    refuse_difference(directory, config.relevant(), free=(*FREE, *RESOLVED))
    refuse_lost_weights(directory)
    refuse_other_source(directory, config)
    refuse_other_data(directory, config)
    return config.run_dir
