"""What `ssl-study submit` passes to the jobs, on a cluster of scripts (conftest.py)."""

from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission

from jobs.__main__ import main
from ssl_pkg.data.synthetic import Sizes, generate


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("given", [["--data", "it's"], ["data.root=it's"], ["data.root=~/it's"]])
def test_jobs_get_the_absolute_path_of_the_images(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job may start in another folder, and a container engine takes a relative path for the name of a volume."""
    generate(tmp_path / "it's", Sizes(train_per_class=4, test_per_class=1, unlabeled=40, ood_per_class=1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("test.yaml").write_text("{partition: low, cpus: 1, minutes: 10}")
    line = ["submit", "demo", "--cluster", "test.yaml", "budget=tiny", "study.methods=[supervised]", *given]
    assert main(line) == 0
    stages = [DelayedSubmission.load(file).function for file in Path("runs/demo/.jobs/slurm").glob("*/*_submitted.pkl")]
    assert {stage.data_root for stage in stages} == {"", str(tmp_path / "it's")}  # the report has none
    words = {word for stage in stages for word in stage.command if word.startswith("data.root=")}
    assert words == {f"data.root={tmp_path}/it's"}


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_synthetic_set_has_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("test.yaml").write_text("{partition: low, cpus: 1, minutes: 10}")
    assert main(["submit", "demo", "--cluster", "test.yaml", "study.methods=[supervised]", "data.root=synthetic"]) == 0
    stages = [DelayedSubmission.load(file).function for file in Path("runs/demo/.jobs/slurm").glob("*/*_submitted.pkl")]
    assert {word for stage in stages for word in stage.command if "data.root" in word} == {"data.root=synthetic"}
