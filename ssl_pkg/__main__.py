"""`python -m ssl_pkg stage=… method=… seed=… data.root=… run_dir=…`: one stage, one run directory, one exit status."""

import contextlib
import importlib
import os
import sys
from pathlib import Path

from ssl_pkg.compose import load_config
from ssl_pkg.config import STAGES, methods
from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED, NO_ROOM, BadInput, Busy, Done, Interrupted
from ssl_pkg.resume import FREE, RESOLVED, refuse_difference, refuse_other_data, refuse_other_source
from ssl_pkg.runs import RunDirectory
from ssl_pkg.training.interrupts import Interrupts

HELP = f"""\
usage: python -m ssl_pkg stage=STAGE run_dir=DIR [method=METHOD] [source=DIR] [seed=N] [data.root=DIR] [KEY=VALUE ...]

Runs one stage of the study in its run directory. The same line goes on with an interrupted run.

  stage      {" | ".join(STAGES)}
  method     of stage=pretrain: {" | ".join(methods())}
  source     of the other stages: the run directory of the model that they start from, or `random` (probe, finetune)
  data.root  folder with stl10_binary/ and a CIFAR-10 folder; left out, a synthetic set is drawn
  study      preset: demo (default) | photos-quick | photos | stl10; budget: tiny | demo | quick | full

Every other field: ssl_pkg/conf. Exit status: 0 complete, 75 interrupted (run the line again), 2 wrong input.

  python -m ssl_pkg stage=pretrain method=simclr run_dir=runs/try/pretrain
  python -m ssl_pkg stage=probe source=runs/try/pretrain run_dir=runs/try/probe
"""


def main(arguments: list[str]) -> int:
    """Runs one stage; returns the process's exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return COMPLETE if arguments else BAD_INPUT
    interrupts = Interrupts().install()
    try:
        config = load_config(arguments)
        run = RunDirectory(Path(config.run_dir))
        made_here = False
        if not run.complete:
            with contextlib.suppress(Done):
                importlib.import_module(f"ssl_pkg.stages.{config.stage}").run(config, interrupts)
                made_here = True
        if not made_here:
            refuse_difference(run, config.relevant(), free=(*FREE, *RESOLVED))
            refuse_other_source(run, config)
            refuse_other_data(run, config)
    except BadInput as error:
        print(f"ssl_pkg: {error}", file=sys.stderr)
        return BAD_INPUT
    except Busy as error:
        print(f"ssl_pkg: {error}", file=sys.stderr)
        return FAULT
    except Interrupted as error:
        print(f"{error}; run the same line again to go on", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(
            f"ssl_pkg: can't write run_dir={config.run_dir} ({error.strerror}): "
            "make room, then run the same line again",
            file=sys.stderr,
        )
        return FAULT
    print(f"{config.run_dir} is complete", file=sys.stderr)
    return COMPLETE


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: oneDNN's cache of primitives, taken down at the process's end, sometimes frees what it never set
    # (a segmentation fault after a complete run); and a signal in Python's last moments would give another status.
    os._exit(status)
