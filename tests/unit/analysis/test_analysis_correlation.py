from pathlib import Path

import numpy as np
import pytest
from fake_study import FakeStudy, Whole
from scipy import stats

from analysis import names, tables
from analysis.correlation import TARGETS, correlations, measures_of, points, spearman
from analysis.sections import front, width
from analysis.study import gather

HEADS = {"adaptive_worst_0.03_head", "hessian_top_head"}  # of probes alone: too few models


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 5 against 2 1 4 3 5: sum of d^2 is 4, so rho = 1 - 6*4 / (5*24) = .8.
    # Of the 120 orders 8 have rho >= .8 (1 with sum 0, 4 with sum 2, 3 with sum 4) and as many rho <= -.8.
    found = spearman("m", "test", np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([20.0, 10.0, 40.0, 30.0, 50.0]))
    assert found.rho == pytest.approx(0.8)
    assert found.p == pytest.approx(16 / 120)
    assert found.n == 5
    assert -1 <= found.low <= found.rho <= found.high <= 1


def test_spearman_with_ties_agrees_with_scipy() -> None:
    draws = np.random.default_rng(1)
    for n in (6, 12):  # exact, and by random permutations
        x, y = draws.integers(0, 4, n).astype(float), draws.normal(size=n)
        expected = stats.spearmanr(x, y)
        found = spearman("m", "test", x, y)
        assert found.rho == pytest.approx(expected.statistic)
        assert 0 < found.p <= 1
    assert found.p == pytest.approx(expected.pvalue, abs=0.05)


def test_a_point_is_a_model_and_the_random_initialisation_is_none(whole: Whole) -> None:
    shown = points(whole.study, "keskar", "test")
    assert set(shown) == set(whole.study.models) - {"random-probe"}
    rows = {(r["model"], r["evaluation"], r["metric"]): r["value"] for r in whole.fake.written}
    x = [rows[model, "width", "keskar"] for model in shown]
    y = [rows[model, "test", "accuracy"] for model in shown]
    found = next(c for c in correlations(whole.study) if (c.measure, c.target) == ("keskar", "test"))
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.n == 5


def test_seeds_are_averaged_not_counted(fake: FakeStudy) -> None:
    for seed in (0, 1):
        for method in ("simclr", "byol"):
            for model in (fake.probe(method, seed), fake.finetune(method, seed)):
                fake.width(f"{method}-{model.name.partition('-')[0]}", seed)
    study = gather(fake.path)
    values = [r["value"] for r in fake.written if (r["model"], r["metric"]) == ("byol-probe", "hessian_top")]
    assert points(study, "hessian_top", "test")["byol-probe"][0] == pytest.approx(np.mean(values))
    assert {found.n for found in correlations(study)} == {4}


def test_loss_and_accuracy_on_the_subset_are_told_and_not_correlated(whole: Whole, tmp_path: Path) -> None:
    beside = {"train_loss", "train_accuracy"}
    assert beside < set(measures_of(whole.study))
    assert beside < set(tables.width(whole.study)["measure"])
    found = correlations(whole.study)
    assert {(entry.measure, entry.target) for entry in found} == {
        (measure, target) for measure in set(measures_of(whole.study)) - beside - HEADS for target in TARGETS
    }
    assert beside.isdisjoint(tables.correlation(whole.study)["measure"])
    sentence = next(text for text in front.findings(whole.study).blocks[1]["items"] if "rank correlations" in text)
    assert f"of {len(found)} rank correlations" in sentence
    drawn: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(width.width, "scatter", lambda study, measures, found: drawn.extend(measures))
        section = width.section(whole.study, tmp_path)
    assert drawn
    assert beside.isdisjoint(drawn)
    values, head, related = (
        {row[0] for row in block["rows"]}
        for block in section.blocks
        if block.get("headings", [""])[0] == "Measure" and "Definition" not in block["headings"]
    )
    labels = {names.measure_label(measure) for measure in beside}
    assert labels <= values
    assert {names.measure_label(measure) for measure in HEADS} == head
    assert labels.isdisjoint(related)


def test_three_models_are_too_few(fake: FakeStudy) -> None:
    for model in ("simclr-probe", "byol-probe", "moco-probe"):
        fake.probe(model.partition("-")[0])
        fake.width(model)
    study = gather(fake.path)
    assert measures_of(study)
    assert correlations(study) == []
