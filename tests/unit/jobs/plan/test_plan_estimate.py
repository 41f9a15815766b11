"""The GPU hours and the disk space that a study will need."""

import re
from pathlib import Path

import numpy as np
import pytest
from packed_sizes import photographs

from jobs.plan.estimate import DISK_MB, PAIRS_PER_SECOND, Estimate, estimate, images_of, workloads
from jobs.plan.graph import Job, plan
from jobs.plan.settings import plan_published
from ssl_pkg.config.compose import load_config
from ssl_pkg.data.images import holdout
from ssl_pkg.data.synthetic import DEFAULT
from ssl_pkg.stages.few_labels import _subsets
from ssl_pkg.stages.labelled import grid_of

PERFORMANCE = Path(__file__).parents[4] / "docs" / "performance.md"


def planned(*overrides: str) -> dict[str, Job]:
    runs = Path("nowhere")
    return {job.name: job for job in plan_published("stl10", seeds="0", overrides=overrides, runs=runs, reports=runs)}


def of(name: str, *overrides: str) -> Estimate:
    return estimate(planned(*overrides)[name], images_of(None))


def test_the_rates_are_those_of_the_documentation() -> None:
    """docs/performance.md has a table `96 px, batches of 256, H100`."""
    table = PERFORMANCE.read_text(encoding="utf-8").partition("| 96 px, batches of 256, H100 |")[2].partition("\n\n")[0]
    rates = re.findall(r"^\| (SimCLR|BYOL|MoCo v2) \|.* ([\d,]+) \|$", table, re.MULTILINE)
    names = {"SimCLR": "simclr", "BYOL": "byol", "MoCo v2": "moco"}
    assert {names[title]: int(rate.replace(",", "")) for title, rate in rates} == PAIRS_PER_SECOND


@pytest.mark.parametrize(
    ("overrides", "pairs"),
    [
        ((), 200 * 390 * 256),  # 100,000 images have 390 whole batches
        (("budget=long",), 800 * 390 * 256),
        (("method.epochs=3", "method.batch_size=1000"), 3 * 100_000),
        (("budget.max_steps=7",), 7 * 256),
        (("budget.resolution=48",), 200 * 390 * 256 / 4),
    ],
)
def test_a_pretraining_takes_the_time_of_its_pairs_and_of_compiling(overrides: tuple[str, ...], pairs: float) -> None:
    found = of("pretrain-byol-s0", *overrides)
    assert found.measured and found.gpu_seconds == pytest.approx(40 + pairs / 17_700)


def test_the_trials_of_a_fine_tuning_have_long_epochs_too() -> None:
    """Four fifths of 4,000 images have 50 batches, fewer than an epoch must have; all have 62."""
    long, once = (
        estimate(planned(f"budget.min_epoch_steps={steps}")["finetune-byol-s0"], {"unlabeled": 9, "train": 4000})
        for steps in (60, 1)
    )
    config = load_config(["study=stl10", "stage=finetune", "source=random", "run_dir=-", "data.root=-"])
    trials = len(grid_of(config.finetune)) * config.finetune.selection_epochs
    assert long.gpu_seconds - once.gpu_seconds == pytest.approx(trials * 50 * 256 / 27_000)


@pytest.mark.slow
def test_trainings_on_labels_have_as_many_steps_as_the_stages_make() -> None:
    """Compared with the grid, the holdout split and the subsets of the stages, for the 5,000 labelled images."""
    config = load_config(["study=stl10", "stage=finetune", "source=random", "run_dir=-", "data.root=-"])
    labels = np.repeat(np.arange(10), 500)
    kept, _ = holdout(labels, config.probe.validation_fraction)
    trials = len(grid_of(config.finetune)) * config.finetune.selection_epochs * (len(kept) // 64)
    steps = trials + config.finetune.epochs * (len(labels) // 64)
    without = of("ood-supervised-s0").gpu_seconds
    assert of("finetune-byol-s0").gpu_seconds - without == pytest.approx(steps * 256 / 27_000)
    assert not of("finetune-byol-s0").measured

    few = config.few_labels
    subsets = _subsets(labels, (10, 25), few.draws)
    steps = len(subsets) * few.steps * (1 + len(few.base_lrs) * len(few.heads))
    found = of("few_labels-byol-s0", "few_labels.labels_per_class=[10,25]").gpu_seconds
    assert found - without == pytest.approx(steps * 256 / 27_000)
    one = of("few_labels-byol-s0", "few_labels.labels_per_class=[10,25]", "few_labels.base_lrs=[1.0e-3]",
             "few_labels.heads=[random]").gpu_seconds  # fmt: skip
    assert one - without == pytest.approx(len(subsets) * few.steps * 256 / 27_000)  # a single candidate has no trials
    folds = of("few_labels-byol-s0", "few_labels.folds=true").gpu_seconds - of("few_labels-byol-s0").gpu_seconds
    assert folds == pytest.approx(10 * few.steps * (1 + len(few.base_lrs) * len(few.heads)) * 256 / 27_000)


def test_the_images_are_counted_in_files_or_known(tmp_path: Path) -> None:
    assert images_of(None) == {"train": 5_000, "unlabeled": 100_000}
    assert images_of("synthetic") == {"train": 10 * DEFAULT.train_per_class, "unlabeled": DEFAULT.unlabeled}
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, count in (("train", 3), ("unlabeled", 5)):
        (folder / f"{name}_X.bin").write_bytes(bytes(count * 3 * 96 * 96))
    assert images_of(str(tmp_path)) == {"train": 3, "unlabeled": 5}


def test_the_weights_and_two_checkpoints_fit_the_disk_space_of_each_stage() -> None:
    """float32 weights of ResNet-18, and in the checkpoints those of BYOL's networks and the optimizers' moments."""
    encoder, head = 11.18e6, 512 * 4096 + 4096 * 256
    predictor = 2 * 256 * 4096
    online, target = encoder + head + predictor, encoder + head
    assert DISK_MB["pretrain"] > 4 * (encoder + (2 * online + target) + (online + target)) / 1e6
    assert DISK_MB["finetune"] > 4 * (encoder + 3 * encoder + encoder) / 1e6  # AdamW has two moments
    assert DISK_MB["probe"] > 4 * encoder / 1e6


@pytest.mark.slow
def test_the_work_of_trainings_is_the_images_that_they_process(tmp_path: Path) -> None:
    """32 images of each of three classes, in photos-quick: its 50 labels a class are left out, as the stage does."""
    config = load_config(["study=photos-quick", "stage=probe", "source=random", "run_dir=-", "data.root=-"])
    root = str(photographs(tmp_path / "photographs"))
    jobs = plan(config.study, runs=tmp_path, reports=tmp_path, data_root=root)
    found = workloads(jobs, root)
    assert found["pretrain-byol-s0"] == 200 * 64 * 2
    assert found["finetune-random-s0"] == (100 + 100 + 300) * 64  # two trials of two epochs, and six epochs
    assert found["few_labels-moco-s0"] == len(_subsets(np.repeat(np.arange(3), 32), (10, 50), 5)) * 100 * 64
    assert found["width-byol-probe-s0"] == pytest.approx(found["few_labels-byol-s0"] * 8 / 30)
