"""Runs that are interrupted at random moments and whose newest checkpoint is damaged end with the same bits."""

import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import start
from trainers import LONG, METHODS, Study, differences, exists_within

from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.run.checkpoint import load_checkpoint
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.signals import SIGNALS

TARGETS = (*METHODS, "finetune", "width") if LONG else (*METHODS, "finetune")
INTERRUPTIONS = 20 if LONG else 2  # of each target with each damage; every second one is a SIGKILL
STOP_SECONDS = 5.0  # limit from the end of a step to the end of the process; a step takes tenths of a second here


def untouched(newest: Path, chance: random.Random) -> None:
    pass


def truncated(newest: Path, chance: random.Random) -> None:
    content = newest.read_bytes()
    newest.write_bytes(content[: chance.randrange(len(content))])


def flipped(newest: Path, chance: random.Random) -> None:
    with newest.open("r+b") as file:
        position = chance.randrange(newest.stat().st_size)
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def replaced_by_half(newest: Path, chance: random.Random) -> None:
    half_beside(newest, chance)
    newest.unlink()


def half_beside(newest: Path, chance: random.Random) -> None:
    content = newest.read_bytes()
    newest.with_name(f".{newest.name}.{chance.randrange(10**6)}.tmp").write_bytes(content[: len(content) // 2])


DAMAGES = (untouched, truncated, flipped, replaced_by_half, half_beside)
PAIRS = [
    (target, damage)
    for number, target in enumerate(TARGETS)
    for damage in (DAMAGES if LONG else [DAMAGES[number % len(DAMAGES)]])
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("target", "damage"), PAIRS)
def test_a_run_that_is_interrupted_at_random_moments_ends_like_the_uninterrupted_one(
    study: Study, folder: Path, target: str, damage: Callable[[Path, random.Random], None]
) -> None:
    uninterrupted, chance = study.uninterrupted(target), random.Random(f"{target} {damage.__name__}")
    line, run_dir = study.line(target, folder / target), folder / target
    stderr: list[str] = []
    for number in range(INTERRUPTIONS):
        how = {"kill": number % 2 == 0, "at_work": number % 4 < 2}
        while not interrupt(line, run_dir, study.seconds[target], chance, stderr, **how):
            # The run was complete before the interruption: start again. A kill after that can leave temporary files.
            assert [what for what in differences(uninterrupted, run_dir) if what != "files"] == []
            shutil.rmtree(run_dir)
        checkpoints = sorted(run_dir.glob("checkpoints/step-*.ckpt"))
        if checkpoints:
            damage(checkpoints[-1], chance)
    (trainer,) = start(line)
    assert trainer.status() == COMPLETE, trainer.stderr()
    assert differences(uninterrupted, run_dir) == []
    if LONG:  # because a run that starts again each time would end with the same bits, too
        assert sum("resumes from the checkpoint of step" in text for text in stderr) >= INTERRUPTIONS / 4
        assert any("is damaged" in text for text in stderr) == (damage in (truncated, flipped))


def interrupt(
    line: list[str],
    run_dir: Path,
    longest: float,
    chance: random.Random,
    stderr: list[str],
    *,
    kill: bool,
    at_work: bool,
) -> bool:
    """Starts a trainer and interrupts it at a random moment. Returns whether the run was not complete by then.

    stderr: the trainer's output is appended. at_work: interrupt after two checkpoints of this trainer, which then saves
    one after each step, so that an intact one is left if the newest is damaged. Otherwise often before the first step.
    """
    before = set(run_dir.glob("checkpoints/step-*.ckpt"))
    (trainer,) = start([*line, "checkpoint.minutes=1e-9"] if at_work else line)
    number = signal.SIGKILL if kill else chance.choice(SIGNALS)
    while at_work and len({*run_dir.glob("checkpoints/step-*.ckpt")} - before) < 2 and not trainer.ends_within(0.01):
        pass
    trainer.ends_within(chance.uniform(0, longest / (8 if at_work else 3)))
    trainer.send(number)
    if not kill and chance.random() < 0.5:
        time.sleep(chance.uniform(0, 0.2))
        trainer.send(chance.choice(SIGNALS))  # a second signal has no effect
    status = trainer.status(STOP_SECONDS + 1)
    stderr.append(trainer.stderr())
    assert status in (COMPLETE, -number if kill else INTERRUPTED), stderr[-1]
    stopped = re.search(r"stopped after step (\d+) of \d+", stderr[-1])
    assert ("run the same command again to resume" in stderr[-1]) == (status == INTERRUPTED)
    if stopped:
        state = load_checkpoint(run_dir / "checkpoints")
        assert state is not None
        assert state["step"] == int(stopped[1])
    return not RunDirectory(run_dir).complete  # a SIGKILL may arrive after the run is complete


def test_a_new_checkpoint_is_kept_although_all_earlier_ones_are_damaged(study: Study, folder: Path) -> None:
    line, checkpoints = study.line("simclr", folder / "run"), folder / "run/checkpoints"
    (trainer,) = start(line)
    assert exists_within(60, checkpoints / "step-000000008.ckpt", trainer)
    trainer.send(signal.SIGKILL)
    trainer.status()
    (folder / "run/result.json").unlink(missing_ok=True)
    for file in checkpoints.iterdir():
        file.write_bytes(b"damaged")
    (trainer,) = start(line)
    trainer.send(signal.SIGTERM)
    assert trainer.status() == INTERRUPTED
    state = load_checkpoint(checkpoints)
    assert state is not None
    assert state["step"] == 1
