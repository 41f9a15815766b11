"""Batch sizes are compared with the images before the first run starts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.plan.batch_sizes import check_batch_sizes, repeated_passes
from jobs.plan.settings import configure, plan_study
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.errors import BadInput
from ssl_pkg.layout import IMAGE_BYTES


def images(root: Path, *, train: int, unlabeled: int) -> Path:
    """A folder whose splits have these numbers of images, in files without content."""
    (root / "stl10_binary").mkdir(parents=True, exist_ok=True)
    for name, count in (("train", train), ("unlabeled", unlabeled)):
        with (root / "stl10_binary" / f"{name}_X.bin").open("wb") as file:
            file.truncate(count * IMAGE_BYTES)
    return root


def check(root: Path, study: str, *overrides: str, processes: int = 1) -> None:
    config = configure(study, data=str(root), seeds=None, overrides=overrides)
    jobs = plan_study(config, runs=root / "runs", reports=root, overrides=overrides)
    check_batch_sizes(jobs, str(root), processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "count", "overrides", "sentence"),
    [
        ("photos-quick", 64, (), None),
        ("photos", 256, (), None),
        (
            "photos",  # three classes of 30, of which 72 are in train, and no others
            72,
            (),
            "the batches of simclr, byol, moco don't fit (method.batch_size=256 is larger than the split unlabeled, "
            "which has 72 images): give method.batch_size=64",
        ),
        (
            "photos",
            72,
            ("method.batch_size=48",),
            "the batches of moco don't fit (method.model.queue_size=4096 must be a multiple of "
            "method.batch_size=48): give method.batch_size=32",
        ),
        ("photos", 72, ("study.methods=[simclr,byol]",), "has 72 images): give method.batch_size=72"),
        ("photos", 72, ("study.methods=[supervised]",), None),
        ("photos-quick", 10, ("method.split=train",), "larger than the split train, which has 10 images): give"),
        ("photos", 10, (), "which has 10 images): no other fits: add images, or leave methods out"),
        ("photos", 10**5, ("method.batch_size=512,96",), "must be a multiple of method.batch_size=96): give"),
        ("photos", 72, ("study.methods=[moco]", "method.model.queue_size=x"), "method.batch_size=72"),
    ],
)
def test_impossible_batches_get_one_sentence_with_a_size_that_fits(
    study: str, count: int, overrides: tuple[str, ...], sentence: str | None, tmp_path: Path
) -> None:
    root = images(tmp_path, train=count, unlabeled=count)
    if sentence is None:
        check(root, study, *overrides)
        return
    with pytest.raises(BadInput) as caught:
        check(root, study, *overrides)
    assert sentence in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("study", "count"), [("photos", 16), ("photos", 255), ("photos-quick", 17)])
def test_the_size_in_the_message_fits(study: str, count: int, tmp_path: Path) -> None:
    root = images(tmp_path, train=count, unlabeled=count)
    with pytest.raises(BadInput) as caught:
        check(root, study)
    (advice,) = re.findall(r"method\.batch_size=\d+$", str(caught.value))
    check(root, study, advice)


@pytest.mark.slow
def test_a_batch_is_divided_among_the_processes_of_a_cluster(tmp_path: Path) -> None:
    root = images(tmp_path, train=2000, unlabeled=2000)
    check(root, "photos", processes=8)
    with pytest.raises(BadInput, match=r"=100 must be a multiple of the world size 8.*: give method.batch_size=64$"):
        check(root, "photos", "method.batch_size=100", processes=8)


def test_images_that_this_machine_does_not_see_are_not_compared(tmp_path: Path) -> None:
    check(tmp_path, "photos")


@pytest.mark.slow
def test_a_study_says_how_often_it_passes_over_few_images(tmp_path: Path) -> None:
    def sentences(count: int, *overrides: str) -> list[str]:
        root = images(tmp_path, train=96, unlabeled=count)
        config = configure("photos-quick", data=str(root), seeds="0 1", overrides=overrides)
        jobs = plan_study(config, runs=root / "runs", reports=root, overrides=overrides)
        return sorted(repeated_passes(jobs, str(root)))

    why = "because of budget.min_epoch_steps, so that the training has"
    labelled = f"few images for finetune: an epoch passes 50 times over the 96 images of train, {why} 300 steps"
    assert sentences(96) == [
        labelled,
        f"few images for pretrain: an epoch passes 50 times over the 96 images of unlabeled, {why} 200 steps",
    ]
    assert sentences(6400) == [labelled]
    assert sentences(96, "budget.min_epoch_steps=1") == []


@pytest.mark.slow
def test_the_sizes_of_the_synthetic_set_are_known_before_it_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_pkg.cache.user_cache", lambda: tmp_path)  # empty
    overrides = ["method.split=train", "budget.min_epoch_steps=30", "study.methods=[simclr]"]
    config = configure("demo", data=None, seeds="0", overrides=overrides)
    jobs = plan_study(config, runs=tmp_path / "runs", reports=tmp_path, overrides=overrides)
    sentences = repeated_passes(jobs, "synthetic")
    assert "few images for pretrain: an epoch passes 2 times over the 1,000 images of train" in "".join(sentences)
    with pytest.raises(BadInput, match="larger than the split train, which has 1,000 images"):
        check_batch_sizes([replace(jobs[0], overrides=(*jobs[0].overrides, "method.batch_size=1001"))], "synthetic")


@pytest.mark.slow
def test_a_study_that_can_not_pretrain_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, runs = tmp_path / "data", tmp_path / "runs"
    generate(data, Sizes(train_per_class=3, test_per_class=1, unlabeled=40, ood_per_class=1))
    assert main(["study", "photos-quick", "--data", str(data), "--runs", str(runs)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("the batches of simclr, byol, moco don't fit (method.batch_size=64 is larger than ")
    assert error.endswith(", which has 40 images): give method.batch_size=32\n") and error.count("\n") == 1
    assert not runs.exists()
