"""Sweeps over numbers as curves: the values are those of the plan, and the points are the models' accuracies."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from fake_study import FakeStudy

from analysis.estimates import estimate
from analysis.figures import style, sweep
from analysis.names import Model
from analysis.reading import read_study
from analysis.study import Study
from analysis.sweeps import Curve, curves


def swept(path: Path, variants: Sequence[str], *overrides: str) -> Study:
    """A study of SimCLR with a probe for each variant, and with the probe on the random initialisation."""
    fake = FakeStudy(path, methods=("simclr",), images=60)
    path.mkdir(parents=True)
    fake.write_plan(*overrides)
    fake.probe("random")
    for variant in variants:
        run = fake.probe("simclr")
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"variant": variant}))
        run.rename(run.with_name(f"{run.name}-{variant}"))
    return read_study(path)


def probe(variant: str = "") -> Model:
    return Model("simclr", "probe", variant)


def test_the_points_of_a_curve_are_the_accuracies_at_the_values_of_the_plan(tmp_path: Path) -> None:
    variants = ["temperature=1e_05", "temperature=0.5", "temperature=0.07"]
    study = swept(tmp_path / "study", variants, "method.model.temperature=1e-5,0.5,0.07")
    models = {1e-5: probe("temperature=1e_05"), 0.07: probe("temperature=0.07"), 0.5: probe("temperature=0.5")}
    assert curves(study) == [Curve("temperature", probe(), models)]
    with style.styled():
        figure = sweep.over_values(study)
    assert figure is not None
    (axes,) = figure.axes
    (bars,) = axes.containers
    line = bars.lines[0]
    values = [estimate(study, model, "test", "accuracy") for model in models.values()]
    assert list(line.get_xdata()) == [1e-5, 0.07, 0.5]
    assert list(line.get_ydata()) == [value.value for value in values if value]
    assert axes.get_xscale() == "log"
    (ends,) = bars.lines[2]
    assert [tuple(segment[:, 1]) for segment in ends.get_segments()] == [
        pytest.approx(value.bounds) for value in values if value
    ]


def test_each_parameter_has_a_curve_for_every_value_of_the_others(tmp_path: Path) -> None:
    variants = [f"temperature={t},epochs={e},name={n}" for t in (0.1, 0.2) for e in (5, 10) for n in "ab"]
    overrides = ["method.model.temperature=0.1,0.2", "method.epochs=5,10"]
    study = swept(tmp_path / "study", variants, *overrides, "finetune.epochs=7")
    found = {(curve.parameter, curve.model.variant): list(curve.models) for curve in curves(study)}
    assert found == {
        **{("temperature", f"epochs={e},name={n}"): [0.1, 0.2] for e in (5, 10) for n in "ab"},
        **{("epochs", f"temperature={t},name={n}"): [5.0, 10.0] for t in (0.1, 0.2) for n in "ab"},
    }


def test_a_study_without_swept_numbers_has_no_curve(tmp_path: Path) -> None:
    study = swept(tmp_path / "study", ["split=train", "split=unlabeled"], "method.split=train,unlabeled")
    assert curves(study) == []
    assert sweep.over_values(study) is None
