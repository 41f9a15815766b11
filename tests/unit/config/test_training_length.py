"""Epochs of few images have the steps of the budget's minimum, and say how."""

import pytest

from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import Config
from ssl_pkg.config.training_length import study_length, training_length

PRETRAIN = ("stage=pretrain", "method=moco")
FINETUNE = ("stage=finetune", "source=random")


def config(*words: str) -> Config:
    return load_config([*words, "data.root=-", "run_dir=-"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "images", "passes", "steps"),
    [
        ((*PRETRAIN, "budget=quick", "budget.min_epoch_steps=1"), 96, 1, 4),  # one batch of 64 in each of four epochs
        ((*PRETRAIN, "budget=quick", "budget.min_epoch_steps=75"), 96, 75, 300),
        ((*PRETRAIN, "budget=quick", "budget.min_epoch_steps=75"), 200, 25, 300),  # three batches a pass
        ((*PRETRAIN, "budget=quick", "budget.min_epoch_steps=76"), 200, 26, 312),
        ((*PRETRAIN, "budget=quick", "budget.min_epoch_steps=75"), 100_000, 1, 4 * 1562),
        ((*PRETRAIN, "budget=quick", "budget.min_epoch_steps=75", "budget.max_steps=50"), 96, 75, 50),
        ((*FINETUNE, "budget=quick", "budget.min_epoch_steps=1"), 96, 1, 6),
        ((*FINETUNE, "budget=quick", "budget.min_epoch_steps=50"), 96, 50, 300),
        ((*FINETUNE, "budget=quick", "budget.min_epoch_steps=50"), 20, 50, 300),  # in batches of 20
        ((*FINETUNE, "budget=quick", "budget.min_epoch_steps=50", "budget.max_steps=50"), 96, 50, 300),
        ((*FINETUNE, "budget=full"), 5000, 1, 100 * 78),
        ((*PRETRAIN, "budget=full", "method.epochs=1"), 100_000, 1, 390),  # wanted, and not for lack of images
    ],
)
def test_few_images_are_passed_over_until_the_minimum_of_steps_is_reached(
    words: tuple[str, ...], images: int, passes: int, steps: int
) -> None:
    length = training_length(config(*words), images)
    assert (length.passes, length.steps) == (passes, steps)


@pytest.mark.parametrize("budget", ["full", "long", "quick", "demo"])
def test_stl10_itself_is_passed_over_once_in_an_epoch(budget: str) -> None:
    for words, images in ((PRETRAIN, 100_000), (FINETUNE, 5000)):
        assert training_length(config(*words, f"budget={budget}"), images).passes == 1


def test_a_set_of_the_size_of_stl10_has_trials_of_one_pass_in_an_epoch() -> None:
    for images in (3798, 4000, 4748):  # four fifths of train, and all of it
        assert training_length(config(*FINETUNE, "budget=quick"), images).passes == 1


def test_the_demos_own_images_are_passed_over_once_in_an_epoch() -> None:
    for words, images in ((PRETRAIN, 5000), (FINETUNE, 1000)):
        assert training_length(config(*words, "budget=demo"), images).passes == 1


@pytest.mark.slow
def test_a_preset_says_how_long_it_trains_on_the_users_images() -> None:
    assert study_length("photos-quick", {"train": 96, "unlabeled": 96}) == (
        "photos-quick pretrains each method for 200 steps in batches of 64 (4 epochs, 50 passes in an epoch), and "
        "trains on labels for 300 steps"
    )
    assert study_length("photos-quick", {"train": 5000, "unlabeled": 6400}) == (
        "photos-quick pretrains each method for 400 steps in batches of 64 (4 epochs), and trains on labels for 468 "
        "steps"
    )
    assert "photos pretrains in batches of 256, but unlabeled has 96 images: give it a smaller" in study_length(
        "photos", {"train": 96, "unlabeled": 96}
    )
