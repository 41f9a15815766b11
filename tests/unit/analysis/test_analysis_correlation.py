from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_study import FakeStudy, Whole, model_of
from scipy import stats

from analysis import tables
from analysis.correlation import TARGETS, correlations, measures_of, points, spearman
from analysis.measures import Measurement
from analysis.names import RANDOM_PROBE
from analysis.sections import front, width
from analysis.study import read_study
from ssl_pkg.rows import dimensions_of

AT_OPTIMUM = {Measurement("loss"), Measurement("accuracy")}


def measured(measure: str, **dimensions: Any) -> Measurement:
    found = {"measure": measure, "scope": "network", "normalized": False, **dimensions}
    return Measurement("width", frozenset(found.items()))


# only probes have them: too few models for a correlation
HEADS = {measured("adaptive_worst", radius=0.03, scope="head"), measured("hessian_top", scope="head")}
KESKAR = measured("keskar")


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 5 against 2 1 4 3 5: sum of d^2 is 4, so rho = 1 - 6*4 / (5*24) = .8.
    # Of the 120 orders 8 have rho >= .8 (1 with sum 0, 4 with sum 2, 3 with sum 4) and as many rho <= -.8.
    found = spearman(KESKAR, "test", np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([20.0, 10.0, 40.0, 30.0, 50.0]))
    assert found.rho == pytest.approx(0.8)
    assert found.p == pytest.approx(16 / 120)
    assert found.n == 5
    assert -1 <= found.low <= found.rho <= found.high <= 1


def test_spearman_with_ties_agrees_with_scipy() -> None:
    draws = np.random.default_rng(1)
    for n in (6, 12):  # exact, and by random permutations
        x, y = draws.integers(0, 4, n).astype(float), draws.normal(size=n)
        expected = stats.spearmanr(x, y)
        found = spearman(KESKAR, "test", x, y)
        assert found.rho == pytest.approx(expected.statistic)
        assert 0 < found.p <= 1
    assert found.p == pytest.approx(expected.pvalue, abs=0.05)


def test_each_model_but_the_random_initialisation_is_a_point(whole: Whole) -> None:
    shown = points(whole.study, KESKAR, "test")
    assert set(shown) == set(whole.study.models) - {RANDOM_PROBE}
    rows = {(r["model"], r["evaluation"], r["metric"], dimensions_of(r)): r["value"] for r in whole.fake.written}
    x = [rows[model.name, "width", "width", KESKAR.dimensions] for model in shown]
    y = [rows[model.name, "test", "accuracy", frozenset()] for model in shown]
    found = next(c for c in correlations(whole.study) if (c.measure, c.target) == (KESKAR, "test"))
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.n == 5


def test_seeds_are_averaged_not_counted(fake: FakeStudy) -> None:
    for seed in (0, 1):
        for method in ("simclr", "byol"):
            for model in (fake.probe(method, seed), fake.finetune(method, seed)):
                fake.width(f"{method}-{model.name.partition('-')[0]}", seed)
    study = read_study(fake.path)
    top = measured("hessian_top")
    written = [r for r in fake.written if r["model"] == "byol-probe" and dimensions_of(r) == top.dimensions]
    values = [r["value"] for r in written]
    assert points(study, top, "test")[model_of("byol-probe")][0] == pytest.approx(np.mean(values))
    assert {found.n for found in correlations(study)} == {4}


def test_loss_and_accuracy_on_the_subset_are_shown_and_not_correlated(whole: Whole, tmp_path: Path) -> None:
    assert set(measures_of(whole.study)) > AT_OPTIMUM
    assert {"loss", "accuracy"} < set(tables.width(whole.study)["metric"])
    found = correlations(whole.study)
    assert {(entry.measure, entry.target) for entry in found} == {
        (measure, target) for measure in set(measures_of(whole.study)) - AT_OPTIMUM - HEADS for target in TARGETS
    }
    assert len(tables.correlation(whole.study)) == len(found)
    sentence = next(text for text in front.findings(whole.study).blocks[1]["items"] if "rank correlations" in text)
    assert f"of {len(found)} rank correlations" in sentence
    drawn: list[Measurement] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(width.width, "scatter", lambda study, measures, found: drawn.extend(measures))
        section = width.section(whole.study, tmp_path)
    assert drawn
    assert AT_OPTIMUM.isdisjoint(drawn)
    values, head, related = (
        {row[0] for row in block["rows"]}
        for block in section.blocks
        if block.get("headings", [""])[0] == "Measure" and "Definition" not in block["headings"]
    )
    labels = {measure.label for measure in AT_OPTIMUM}
    assert labels <= values
    assert {measure.label for measure in HEADS} == head
    assert labels.isdisjoint(related)


def test_three_models_are_too_few(fake: FakeStudy) -> None:
    for model in ("simclr-probe", "byol-probe", "moco-probe"):
        fake.probe(model.partition("-")[0])
        fake.width(model)
    study = read_study(fake.path)
    assert measures_of(study)
    assert correlations(study) == []
