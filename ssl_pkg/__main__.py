"""`python -m ssl_pkg stage=… method=… seed=… data.root=… run_dir=…`: one stage, one run directory, one exit status."""

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()  # before anything is imported that a file of the working folder could shadow

import os
import sys

from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED, NO_ROOM, BadInput, Busy, Diverged, Interrupted
from ssl_pkg.hardware.memory import prefer_jemalloc
from ssl_pkg.run.signals import SIGNALS, InterruptFlag
from ssl_pkg.streams import prepare_streams

HELP = """\
usage: python -m ssl_pkg stage=STAGE run_dir=DIR [method=METHOD] [source=DIR] [seed=N] [data.root=DIR] [KEY=VALUE ...]

Runs one stage of the study in its run directory. The same line goes on with an interrupted run.

  stage      {stages}
  method     of stage=pretrain: {methods}
  source     of the other stages: the run directory of the model that they start from, or `random` (probe, finetune)
  data.root  folder with stl10_binary/ and a CIFAR-10 folder; left out, the synthetic set is generated
  study      preset: demo (default) | photos-quick | photos | stl10; budget: tiny | demo | quick | full

A path is everything after the first `=`, with `~` expanded; a folder called random is ./random.
Every other field: ssl_pkg/conf. Exit status: 0 complete, 75 interrupted (run the line again), 2 wrong input,
1 a fault of the machine or another process at work.

  python -m ssl_pkg stage=pretrain method=simclr run_dir=runs/try/pretrain
  python -m ssl_pkg stage=probe source=runs/try/pretrain run_dir=runs/try/probe
"""


def main(arguments: list[str]) -> int:
    """Runs one stage; returns the process's exit status."""
    interrupt_flag = InterruptFlag().install()
    # else each of several processes advises against find_unused_parameters, which world.py has a reason for
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from ssl_pkg import command  # not before: it takes a second to load, in which a signal would be the process's end

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(**command.CHOICES), end="")
        return COMPLETE if arguments else BAD_INPUT
    try:
        run_dir = command.run(arguments, interrupt_flag)
    except BadInput as error:
        print(f"ssl_pkg: {error}", file=sys.stderr)
        return BAD_INPUT
    except (Busy, Diverged) as error:
        print(f"ssl_pkg: {error}", file=sys.stderr)
        return FAULT
    except Interrupted as error:
        print(f"{error}; run the same line again to go on", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise
        run_dir = " ".join(word.lstrip("+") for word in arguments if "run_dir=" in word)
        if error.errno in NO_ROOM:
            said = f"can't write {run_dir} ({error.strerror}): make room, then run the same line again"
        else:
            said = f"{run_dir}: {error}: when that is mended, run the same line again"
        print(f"ssl_pkg: {said}", file=sys.stderr)
        return FAULT
    print(f"{run_dir} is complete", file=sys.stderr)
    return COMPLETE


def entry() -> None:
    """The console command."""
    safe_path.protect()
    prepare_streams()
    prefer_jemalloc(SIGNALS)
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: oneDNN's cache of primitives, taken down at the process's end, sometimes frees what it never set
    # (a segmentation fault after a complete run); and a signal in Python's last moments would give another status.
    os._exit(status)


if __name__ == "__main__":
    entry()
