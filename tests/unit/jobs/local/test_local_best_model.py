"""What a complete study says of the model with which to predict."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from jobs.local.best_model import prediction_advice
from jobs.local.study import print_summary
from jobs.plan.graph import Job, plan
from ssl_pkg.cache import synthetic_set
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.messages.program import console_command

HOLDOUT = {"probe-random-s0": 0.9, "finetune-random-s0": 0.4, "probe-simclr-s0": 0.6, "finetune-simclr-s0": 0.7}


def jobs(folder: Path, root: str = "/data/my photos") -> list[Job]:
    study = StudyConfig(name="photos", methods=("supervised", "simclr"), seeds=(0,), cpus=1)
    return plan(
        study, runs=folder / "runs", reports=folder / "reports", data_root=root, overrides=("finetune.epochs=7",)
    )


def write(job: Job, holdout: float | None, *, selection_epochs: int = 7) -> None:
    """A result whose test accuracy orders the models the other way round, and which has accuracies of folds too."""
    job.run_dir.mkdir(parents=True, exist_ok=True)
    config = {"finetune": {"selection_epochs": selection_epochs, "epochs": 7}} if job.stage == "finetune" else {}
    (job.run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [
        {"evaluation": "test", "metric": "accuracy", "value": 1 - (holdout or 0.0)},
        {"evaluation": "validation", "metric": "nll", "value": 3.0},
        {"evaluation": "validation", "metric": "accuracy", "value": holdout},
    ]
    (job.run_dir / "result.json").write_text(json.dumps({"rows": rows}))


def study(folder: Path, selection_epochs: int = 7, **more: str) -> list[Job]:
    planned = jobs(folder, **more)
    for job in planned:
        if job.name in HOLDOUT:
            write(job, HOLDOUT[job.name], selection_epochs=selection_epochs)
    return planned


def test_the_trained_model_that_is_best_on_the_holdout_split_is_named_with_its_command(tmp_path: Path) -> None:
    named, how, line = prediction_advice(study(tmp_path)).splitlines()
    assert named == "Most accurate model on the holdout split of train: finetune-simclr-s0 (70.0 %)."
    assert "test images" in how
    program, *words = shlex.split(line)
    assert program.endswith("ssl-study")
    assert words == ["predict", str(tmp_path / "runs" / "photos" / "finetune-simclr-s0"), "/data/my photos"]


def test_shorter_trials_of_fine_tuning_are_said(tmp_path: Path) -> None:
    assert "(70.0 %; fine-tuned ones are measured there after shorter" in prediction_advice(study(tmp_path, 2))


@pytest.mark.parametrize("root", ["synthetic", "a=b"])
def test_the_images_are_those_of_the_study(tmp_path: Path, root: str) -> None:
    expected = str(synthetic_set()) if root == "synthetic" else root
    assert shlex.split(prediction_advice(study(tmp_path, root=root)))[-1] == expected


def test_models_without_an_accuracy_on_the_holdout_split_are_passed_over(tmp_path: Path) -> None:
    planned = study(tmp_path)
    by_name = {job.name: job for job in planned}
    write(by_name["finetune-simclr-s0"], None)
    assert "probe-simclr-s0 (60.0 %" in prediction_advice(planned)
    write(by_name["probe-simclr-s0"], None)
    assert "finetune-random-s0 (40.0 %" in prediction_advice(planned)
    write(by_name["finetune-random-s0"], None)
    assert prediction_advice(planned) == ""  # the random network is a reference only


@pytest.mark.parametrize(
    "typed", ["ssl-study", ".venv/bin/ssl-study", "/a folder/.venv/bin/ssl-study", console_command()]
)
def test_the_last_line_predicts_however_the_program_was_started(
    typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary({}, study(tmp_path), tmp_path / "runs" / "photos", shlex.join([typed, "study", "photos"]))
    program, command, *_ = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert (program, command) == (console_command(), "predict")


def test_a_container_prints_no_command_with_its_own_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary({}, study(tmp_path), tmp_path / "runs" / "photos", "docker run … IMAGE study photos")
    assert "ssl-study predict" not in capsys.readouterr().out
