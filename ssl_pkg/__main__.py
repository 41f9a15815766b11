"""`python -m ssl_pkg stage=… run_dir=… …`: runs one stage in one run directory, and returns one exit status."""

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()  # before any import that a file in the working folder could shadow

import os
import sys
from typing import NoReturn

from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED, NO_ROOM, BadInput, Busy, Diverged, Interrupted
from ssl_pkg.hardware.memory import restart_with_jemalloc
from ssl_pkg.messages.streams import prepare_streams, use_utf8
from ssl_pkg.run.signals import SIGNALS, InterruptFlag

HELP = """\
usage: ssl-study-stage stage=STAGE run_dir=DIR [method=METHOD]
                       [source=DIR] [seed=N] [data.root=DIR]
                       [KEY=VALUE ...]

Runs one stage of the study in its run directory. Running the same command again resumes an interrupted run.

  stage      {stages}
  method     for stage=pretrain: {methods}
  source     for the other stages: the run directory of the model to start from, or `random`
             (probe, finetune, few_labels)
  data.root  folder with stl10_binary/ and, for stage=ood, CIFAR-10 or ood/; by default a synthetic set is generated
  study      a preset: {studies} (default: demo)
  budget     its size: {budgets} (default: that of the study)

A path is everything after the first `=`, with `~` expanded. For a folder called random, write ./random.
All other fields are in ssl_pkg/conf. Exit status: 0 complete, 75 interrupted (run the same command again),
2 wrong input, 1 a fault of the machine, or another process works in the run directory.

  ssl-study-stage stage=pretrain method=simclr run_dir=runs/try/pretrain
  ssl-study-stage stage=probe source=runs/try/pretrain run_dir=runs/try/probe
"""


def main(arguments: list[str]) -> int:
    """Runs one stage. Returns the exit status."""
    interrupt_flag = InterruptFlag().install()
    prepare_imports()
    from ssl_pkg import command  # after the signal handlers, because this import takes a second

    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(**command.choices()), end="")
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
        if _is_rank_0():
            print(f"{error}; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise
        run_dir = " ".join(word.lstrip("+") for word in arguments if "run_dir=" in word)
        if error.errno in NO_ROOM:
            message = f"can't write {run_dir} ({error.strerror}): free some space, then run the same command again"
        else:
            message = f"{run_dir}: {error}: fix this, then run the same command again"
        print(f"ssl_pkg: {message}", file=sys.stderr)
        return FAULT
    if _is_rank_0():
        print(f"{run_dir} is complete", file=sys.stderr)
    return COMPLETE


def prepare_imports() -> None:
    """Sets variables that PyTorch reads when it is imported."""
    # Otherwise each rank prints a warning about find_unused_parameters. training/ddp.py says why that is set.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _is_rank_0() -> bool:
    """Whether this process reports the run's end. The other ranks end earlier, while rank 0 writes the result."""
    from ssl_pkg.distributed.process_info import process_info

    info = process_info()
    return info is None or info.rank == 0


def entry() -> None:
    """The console command `ssl-study-stage`."""
    safe_path.protect()
    use_utf8()
    restart_with_jemalloc(SIGNALS)
    run_and_exit(sys.argv[1:])


def run_and_exit(arguments: list[str]) -> NoReturn:
    """Runs one stage and ends this process with the exit status."""
    prepare_streams()
    status = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit, because oneDNN sometimes crashes when its cache of primitives is destroyed at exit, and because a
    # signal during Python's shutdown would change the exit status.
    os._exit(status)


if __name__ == "__main__":
    entry()
