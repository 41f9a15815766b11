import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_contents import model_of
from fake_reports import Whole
from fake_study import FakeStudy
from scipy import stats

from analysis import relation, tables
from analysis.correlation import (
    KINDS,
    LEAST_INTERVAL,
    TARGETS,
    correlations,
    fisher_interval,
    permutation_p,
    points,
    smallest_p,
    spearman,
)
from analysis.measures import Measurement, chosen
from analysis.names import Model
from analysis.reading import read_study
from analysis.sections import findings, width
from analysis.widths import measured, measures_of, widths_of
from ssl_pkg.rows import bounded, dimensions_of, unmeasured


def measurement_of(measure: str, **dimensions: Any) -> Measurement:
    found = {"measure": measure, "scope": "network", "normalized": False, **dimensions}
    return Measurement("width", frozenset(found.items()))


KESKAR, SIGMA = measurement_of("keskar"), measurement_of("pac_bayes_sigma")


def test_spearman_by_hand() -> None:
    # ranks 1 2 3 4 5 against 2 1 4 3 5: sum of d^2 is 4, so rho = 1 - 6*4 / (5*24) = .8.
    # Of the 120 orders 8 have rho >= .8 (1 with sum 0, 4 with sum 2, 3 with sum 4) and as many rho <= -.8.
    found = spearman(
        KESKAR, "test", "all", np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([20.0, 10.0, 40.0, 30.0, 50.0])
    )
    assert found.rho == pytest.approx(0.8)
    assert found.p == pytest.approx(16 / 120)
    assert found.n == 5
    assert found.low is not None
    assert found.high is not None
    assert -1 <= found.low <= found.rho <= found.high <= 1


def test_spearman_with_ties_agrees_with_scipy() -> None:
    draws = np.random.default_rng(1)
    for n in (6, 12):  # exact, and by random permutations
        x, y = draws.integers(0, 4, n).astype(float), draws.normal(size=n)
        expected = stats.spearmanr(x, y)
        found = spearman(KESKAR, "test", "all", x, y)
        assert found.rho == pytest.approx(expected.statistic)
        assert 0 < found.p <= 1
    assert found.p == pytest.approx(expected.pvalue, abs=0.05)


def test_the_p_value_is_that_of_all_permutations() -> None:
    draws = np.random.default_rng(2)
    x, y = draws.normal(size=6), draws.normal(size=6)

    def statistic(ranks: Any) -> Any:
        return stats.spearmanr(ranks, y).statistic

    expected = stats.permutation_test((x,), statistic, permutation_type="pairings", n_resamples=np.inf)
    assert permutation_p(x, y) == pytest.approx(expected.pvalue)
    for n in (4, 5, 6):
        assert permutation_p(np.arange(float(n)), np.arange(float(n))) == pytest.approx(smallest_p(n))


@pytest.mark.parametrize("n", [5, 7, 13])
@pytest.mark.parametrize("strength", [0.0, 0.6, 0.9])
def test_the_interval_covers_the_true_correlation(n: int, strength: float) -> None:
    """For bivariate normal points Spearman's rho is 6/pi asin(r/2)."""
    draws = np.random.default_rng(0)
    x = draws.normal(size=(4000, n))
    y = strength * x + np.sqrt(1 - strength**2) * draws.normal(size=(4000, n))
    true = 6 / np.pi * np.arcsin(strength / 2)
    distance = ((x.argsort(1).argsort(1) - y.argsort(1).argsort(1)) ** 2).sum(1)
    found, counts = np.unique(1 - 6 * distance / (n**3 - n), return_counts=True)
    intervals = [fisher_interval(rho, n) for rho in found]
    covered = [low <= true <= high for low, high in intervals]
    assert 0.93 <= np.average(covered, weights=counts) <= 0.995


@pytest.mark.parametrize("n", [5, 7, 20])
@pytest.mark.parametrize("rho", [-1.0, 1.0])
def test_the_interval_of_perfect_order_has_a_length_and_ends_at_one(rho: float, n: int) -> None:
    low, high = fisher_interval(rho, n)
    assert rho in (low, high)
    assert high - low > 6 / (n**3 - n)  # half a step between two values of rho


def test_four_models_have_no_interval() -> None:
    x = np.arange(4.0)
    found = spearman(KESKAR, "test", "all", x, x)
    assert (found.low, found.high) == (None, None)
    assert found.p == pytest.approx(2 / 24)
    assert spearman(KESKAR, "test", "all", np.arange(5.0), np.arange(5.0)).low is not None
    assert LEAST_INTERVAL == 5


@pytest.mark.slow
def test_each_model_but_the_random_initialisation_is_a_point(whole: Whole) -> None:
    shown = points(whole.study, KESKAR, "test")
    assert set(shown) == set(whole.study.models) - {Model("random", "probe")}
    rows = {(r["model"], r["evaluation"], r["metric"], dimensions_of(r)): r["value"] for r in whole.fake.written}
    x = [rows[model.name, "width", "width", KESKAR.dimensions] for model in shown]
    y = [rows[model.name, "test", "accuracy", frozenset()] for model in shown]
    gap = [rows[model.name, "width", "accuracy", frozenset()] - value for model, value in zip(shown, y, strict=True)]
    of_keskar = {(c.target, c.kind): c for c in correlations(whole.study) if c.measure == KESKAR}
    for target, values in (("test", y), ("gap", gap)):
        assert of_keskar[target, "all"].rho == pytest.approx(stats.spearmanr(x, values).statistic)
        assert of_keskar[target, "all"].n == 5
    assert {kind for _, kind in of_keskar} == {"all"}  # two probes and two fine-tuned models are too few
    assert set(points(whole.study, KESKAR, "test", "probe")) == {m for m in shown if m.adaptation == "probe"}
    assert set(points(whole.study, KESKAR, "test", "finetune")) == {m for m in shown if m.adaptation == "finetune"}


def test_seeds_are_averaged_not_counted(fake: FakeStudy) -> None:
    for seed in (0, 1):
        for method in ("simclr", "byol"):
            for model in (fake.probe(method, seed), fake.finetune(method, seed)):
                fake.width(f"{method}-{model.name.partition('-')[0]}", seed)
    study = read_study(fake.path)
    top = measurement_of("hessian_eigenvalue", eigenvalue=1)
    written = [r for r in fake.written if r["model"] == "byol-probe" and dimensions_of(r) == top.dimensions]
    values = [r["value"] for r in written]
    assert points(study, top, "test")[model_of("byol-probe")][0] == pytest.approx(np.mean(values))
    assert {found.n for found in correlations(study)} == {4}
    assert {(found.low, found.high) for found in correlations(study)} == {(None, None)}
    assert "so few models can't show a relation" in relation.verdicts(study)[0]


def test_a_family_of_few_models_can_reach_no_small_p_value(whole: Whole) -> None:
    primary = chosen(widths_of(whole.study))
    own = [entry for entry in correlations(whole.study) if entry.measure == primary]
    assert [(entry.n, entry.least_corrected) for entry in own] == [(5, 3 * smallest_p(5))] * 3
    assert relation.verdicts(whole.study)[0].count("so few models can't show a relation") == 3


def test_the_families_are_corrected_apart(whole: Whole) -> None:
    found, primary = correlations(whole.study), chosen(widths_of(whole.study))
    assert primary == measurement_of("adaptive_worst", radius=0.00025, normalized=True)
    own = sorted((entry.p, entry.corrected) for entry in found if entry.measure == primary)
    assert len(own) == len(TARGETS)
    running = 0.0
    for place, (p, corrected) in enumerate(own):  # Holm by hand
        running = max(running, min(1.0, (len(own) - place) * p))
        assert corrected == pytest.approx(running)
    others = [entry for entry in found if entry.measure != primary]
    smallest = min(others, key=lambda entry: entry.p)
    assert smallest.corrected == pytest.approx(min(1.0, len(others) * smallest.p))


def replace_sigma(run: Path, row: dict[str, Any]) -> None:
    """Replaces the row of the PAC-Bayes width."""
    result = json.loads((run / "result.json").read_text())
    result["rows"] = [row if entry.get("measure") == "pac_bayes_sigma" else entry for entry in result["rows"]]
    (run / "result.json").write_text(json.dumps(result))


def marked(blocks: list[dict[str, Any]]) -> set[str]:
    """The marks that the captions of the tables of values explain."""
    text = " ".join(block["caption"] for block in blocks if block.get("name", "").startswith("width-network"))
    return {mark for mark in ("≥ and ≤", "†") if mark in text}


@pytest.mark.slow
def test_a_bound_is_shown_as_a_bound_and_is_no_point(fake: FakeStudy, tmp_path: Path) -> None:
    for method, name in itertools.product(("simclr", "byol", "moco"), ("probe", "finetune")):
        getattr(fake, name)(method)
        run = fake.width(f"{method}-{name}")
        if method == "simclr":
            end: Any = {"at_least": 15.9} if name == "probe" else {"at_most": 0.004}
            replace_sigma(run, dict(bounded("width", "width", 10, "so", **end, dimensions=dict(SIGMA.dimensions))))  # type: ignore[arg-type]  # a Dimensions of the test's own
    study = read_study(fake.path)
    wide, narrow = (measured(study, model_of(f"simclr-{name}"), SIGMA) for name in ("probe", "finetune"))
    assert wide is not None
    assert narrow is not None
    assert (wide.estimate, wide.at_least, wide.at_most) == (None, 15.9, None)
    assert (narrow.value, narrow.at_least, narrow.at_most) == (None, None, 0.004)
    assert len(points(study, KESKAR, "test")) == 6
    assert len(points(study, SIGMA, "test")) == 4
    blocks = width.section(study, tmp_path).blocks
    rows = [row for block in blocks for row in block.get("rows", [])]
    assert marked(blocks) == {"≥ and ≤"}
    (cells,) = [row[1:] for row in rows if row[0].startswith("PAC-Bayes") and len(row) == 7]
    assert sum(cell.startswith("≥ 15.9") for cell in cells) == 1
    assert sum(cell.startswith("≤ 0.00") for cell in cells) == 1
    assert not len(study.unmeasured)
    frame = tables.width(study)
    own = frame[(frame["measure"] == "pac_bayes_sigma") & (frame["model"] == "simclr-probe")]
    assert own["value"].isna().all()
    assert own["at_least"].tolist() == [15.9]


def test_a_bound_of_one_seed_bounds_the_mean_over_seeds(fake: FakeStudy) -> None:
    fake.probe("simclr")
    fake.width("simclr-probe", 0)
    run = fake.width("simclr-probe", 1)
    written = next(row["value"] for row in fake.written if row.get("measure") == "pac_bayes_sigma")
    dimensions: Any = dict(SIGMA.dimensions)
    replace_sigma(run, dict(bounded("width", "width", 10, "so", at_least=15.9, dimensions=dimensions)))
    found = measured(read_study(fake.path), model_of("simclr-probe"), SIGMA)
    assert found is not None
    assert found.at_least == pytest.approx((15.9 + written) / 2)
    assert (found.estimate, found.at_most, found.lost) == (None, None, 0)


def test_a_seed_without_a_value_is_marked_and_its_model_is_no_point(fake: FakeStudy, tmp_path: Path) -> None:
    for method in ("simclr", "byol"):
        fake.probe(method)
        fake.width(f"{method}-probe", 0)
    dimensions: Any = dict(SIGMA.dimensions)
    replace_sigma(fake.width("simclr-probe", 1), dict(unmeasured("width", "width", 10, "it is not finite", dimensions)))
    study = read_study(fake.path)
    found = measured(study, model_of("simclr-probe"), SIGMA)
    assert found is not None
    assert found.estimate is not None
    assert (found.value, found.lost) == (None, 1)
    assert set(points(study, SIGMA, "test")) == {model_of("byol-probe")}
    blocks = width.section(study, tmp_path).blocks
    rows = [row for block in blocks for row in block.get("rows", [])]
    assert marked(blocks) == {"†"}
    assert next(row for row in rows if row[0].startswith("PAC-Bayes") and len(row) == 3)[1].endswith("†")


def test_a_model_is_no_point_if_the_width_of_a_tested_seed_is_missing(fake: FakeStudy) -> None:
    for seed in (0, 1):
        for method in ("simclr", "byol"):
            fake.probe(method, seed)
            if (method, seed) != ("simclr", 1):
                fake.width(f"{method}-probe", seed)
    study = read_study(fake.path)
    found = measured(study, model_of("simclr-probe"), SIGMA)
    assert found is not None
    assert (found.value, found.lost) == (None, 1)
    assert set(points(study, SIGMA, "test")) == {model_of("byol-probe")}


def test_huge_and_missing_numbers_break_neither_table_nor_figure(fake: FakeStudy, tmp_path: Path) -> None:
    for method, name in itertools.product(("simclr", "byol", "moco"), ("probe", "finetune")):
        getattr(fake, name)(method)
        run = fake.width(f"{method}-{name}")
        result = json.loads((run / "result.json").read_text())
        for row in result["rows"]:
            if method == "byol" and row.get("measure") == "adaptive_average":
                row["value"] = 1e30
            if method == "moco" and row.get("measure") == "adaptive_average":
                row |= {"value": None, "reason": "it is not finite"}
        (run / "result.json").write_text(json.dumps(result))
    study = read_study(fake.path)
    rows = [row for block in width.section(study, tmp_path).blocks for row in block.get("rows", [])]
    averages = [row[1:] for row in rows if row[0].startswith("Adaptive average") and len(row) == 7]
    assert averages
    assert all(
        "e+" in " ".join(cells) and [cell.endswith(" †") for cell in cells].count(True) == 2 for cells in averages
    )
    assert all(len(cell) < 12 for cells in averages for cell in cells)
    found = {entry.n for entry in correlations(study) if entry.measure.name == "adaptive_average"}
    assert found == {4}
    assert len(study.unmeasured) == 8


def test_only_widths_of_the_network_are_correlated(whole: Whole, tmp_path: Path) -> None:
    assert {Measurement("loss"), Measurement("accuracy")} < set(measures_of(whole.study))
    assert {"loss", "accuracy", "first_order"} < set(tables.width(whole.study)["metric"])
    found = correlations(whole.study)
    expected = {measure for measure in widths_of(whole.study) if not measure.of_head}
    assert {(entry.measure, entry.target) for entry in found} == set(itertools.product(expected, TARGETS))
    assert len(tables.correlation(whole.study)) == len(found)
    sentence = next(text for text in findings.section(whole.study).blocks[1]["items"] if "Width of the optimum" in text)
    assert sentence == relation.verdicts(whole.study, kinds=("all",))[0]
    drawn: list[Measurement] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relation.width, "scatter", lambda study, measures, found: drawn.extend(measures))
        width.section(whole.study, tmp_path)
    assert drawn == [chosen(expected)]
    assert set(KINDS) == {"all", "probe", "finetune"}


def test_three_models_are_too_few(fake: FakeStudy) -> None:
    for model in ("simclr-probe", "byol-probe", "moco-probe"):
        fake.probe(model.partition("-")[0])
        fake.width(model)
    study = read_study(fake.path)
    assert measures_of(study)
    assert correlations(study) == []
    assert relation.verdicts(study) == []
