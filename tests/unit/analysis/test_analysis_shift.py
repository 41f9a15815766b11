import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fake_contents import model_of, models_of
from fake_study import CLASSES, FakeStudy
from scipy import stats

from analysis import differences, shift, statistics
from analysis.figures import style
from analysis.figures.plotted_data import figure_csv
from analysis.figures.shift import scatter
from analysis.page.shift import against_ood
from analysis.reading import read_study
from analysis.robustness import Networks, effective_robustness
from analysis.sections import ood
from analysis.shift import points
from analysis.study import Study


@pytest.fixture
def study(fake: FakeStudy) -> Study:
    fake.finetune("random")
    fake.pretrain("byol")
    fake.probe("byol")
    for model in ("supervised", "byol-probe"):
        fake.ood(model)
    return read_study(fake.path)


def hits_on_shared(run: Path) -> npt.NDArray[np.bool_]:
    """The hits on all images but monkeys."""
    with np.load(run / "predictions.npz") as arrays:
        shared = arrays["labels"] != CLASSES.index("monkey")
        hits: npt.NDArray[np.bool_] = (arrays["logits"].argmax(1) == arrays["labels"])[shared]
        return hits


def accuracy(run: Path) -> float:
    return float(hits_on_shared(run).mean())


def test_both_accuracies_are_those_of_the_shared_classes(study: Study, fake: FakeStudy) -> None:
    found = shift.points(study)
    assert list(found) == models_of("supervised", "byol-probe")
    point = found[model_of("byol-probe")]
    assert point.test.value == pytest.approx(accuracy(fake.path / "probe-byol-s0"))
    assert point.ood.value == pytest.approx(accuracy(fake.path / "ood-byol-probe-s0"))
    assert point.ood.low < point.ood.value < point.ood.high


def test_the_csv_of_the_figure_has_the_accuracies_of_each_model(study: Study) -> None:
    with style.styled():
        figure = scatter(study)
    assert figure is not None
    rows = list(csv.DictReader(figure_csv(figure).splitlines()))
    for model, point in points(study).items():
        (row,) = (row for row in rows if row["series"] == study.model_label(model))
        assert (float(row["x"]), float(row["y"])) == pytest.approx((point.test.value, point.ood.value))
        places = [float(row["x"]) for row in rows if row["series"] == f"{study.model_label(model)}, interval on test"]
        assert places == pytest.approx([point.test.low, point.test.high])
    (low, high) = figure.axes[0].transData.inverted().transform(figure.axes[0].transAxes.transform([(0, 0), (1, 1)]))
    middle = figure.axes[0].transData.inverted().transform(figure.axes[0].transAxes.transform((0.5, 0.5)))
    assert stats.norm.ppf(middle) == pytest.approx((stats.norm.ppf(low) + stats.norm.ppf(high)) / 2)


def test_without_supervised_models_of_different_strength_the_section_says_so(study: Study, tmp_path: Path) -> None:
    with style.styled():
        made = ood.section(study, tmp_path)
    blocks = made.blocks
    assert any("No line is drawn" in block["text"] for block in blocks if block["kind"] == "text")
    (table,) = (block for block in blocks if block["kind"] == "table")
    assert [row[0] for row in table["rows"]] == ["Supervised", "BYOL probe"]
    assert table["headings"][1:] == ["All classes", "Shared classes", "Shared classes, masked logits"]
    assert [name for _, _, name in made.figures] == ["test-against-ood"]


def test_robustness_is_measured_against_the_supervised_line(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shift.of_model(study, model_of("supervised"))
    assert whole is not None
    generator = np.random.default_rng(0)
    weaker = [
        Networks(*(hits & (generator.random(hits.shape) < share) for hits in (whole.test, whole.ood)))
        for share in (0.3, 0.5, 0.7, 0.9)
    ]
    monkeypatch.setattr(shift, "baselines", lambda study: {"": [*weaker, whole]})
    shift.points.cache_clear()
    found = shift.points(study)
    shift.points.cache_clear()
    assert found[model_of("supervised")].robustness == effective_robustness(whole, weaker)  # a line without itself
    assert found[model_of("supervised")].extrapolated
    point = found[model_of("byol-probe")]
    assert point.robustness is not None
    assert point.extrapolated  # the probe is better than the best supervised network
    own = shift.of_model(study, model_of("byol-probe"))
    assert own is not None
    assert point.robustness == effective_robustness(own, [*weaker, whole])
    with style.styled():
        blocks = ood.section(study, tmp_path).blocks
    shift.points.cache_clear()
    table = blocks[-1]
    assert [row[0] for row in table["rows"]] == ["Supervised *", "BYOL probe *"]
    assert "the line is fitted without it" in table["caption"]
    assert any("tests the line" in block["text"] for block in blocks if block["kind"] == "text")
    assert table["headings"][-1] == "Effective robustness"


@pytest.mark.parametrize(("share", "off"), [(1.0, False), (0.3, True)])
def test_a_line_that_does_not_describe_the_baseline_is_not_used_near_it(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, off: bool
) -> None:
    """Networks that keep this share of the baseline's OOD hits, beside another share of all its hits."""
    whole = shift.of_model(study, model_of("supervised"))
    assert whole is not None
    generator = np.random.default_rng(0)
    weaker = [
        Networks(
            whole.test & (generator.random(whole.test.shape) < kept),
            whole.ood & (generator.random(whole.ood.shape) < kept * share),
        )
        for kept in (0.6, 0.7, 0.8, 0.9)
    ]
    monkeypatch.setattr(shift, "baselines", lambda study: {"": [*weaker, whole]})
    shift.points.cache_clear()
    with style.styled():
        blocks = ood.section(study, tmp_path).blocks
    (plot,) = against_ood(study)
    shift.points.cache_clear()
    said = [block["text"] for block in blocks if "The line does not describe" in block.get("text", "")]
    assert bool(said) is off
    assert ("The line does not describe the model “Supervised”" in plot.caption) is off
    assert "from a line that is fitted without this model, extrapolated" in str(plot.views)


def test_the_baselines_are_the_networks_trained_from_scratch_with_few_labels_and_with_all(
    fake: FakeStudy,
) -> None:
    for seed in range(2):
        fake.finetune("random", seed)
        fake.ood("supervised", seed)
    arrays = {"labels_per_class": [25, 10, 10, 10, 25, 25], "draw": [0, 0, 1, 0, 1, 2], "finetuned": [1, 1, 1, 0, 1, 1]}
    generator = np.random.default_rng(0)
    hits, ood_hits = generator.integers(0, 2, (2, 2, 6, 100)).astype(np.int8)  # of both seeds
    hits[:, 4] = hits[1, 5] = -1  # could not be trained
    for seed in range(2):
        run = fake._open(f"few_labels-random-s{seed}", seed, "random", {}, [])
        tables = {"hits": hits[seed], "ood_hits": ood_hits[seed]} | {name: np.array(x) for name, x in arrays.items()}
        np.savez(run / "few_labels.npz", **tables)
        fake._close(run, "random", seed, [])
    few, more, whole = shift.baselines(read_study(fake.path))[""]
    shared = np.arange(100) % 10 != CLASSES.index("monkey")
    assert np.array_equal(few.test, hits[:, [1, 2]][..., shared].mean(axis=0))  # a row is the mean over a draw's seeds
    assert np.array_equal(few.ood, ood_hits[:, [1, 2]][..., shared].mean(axis=0))
    assert np.array_equal(more.ood, [ood_hits[:, 0, shared].mean(axis=0), ood_hits[0, 5, shared]])
    assert whole.test.shape == (1, 90)


def test_the_change_to_ood_is_over_the_seeds_of_a_model_as_pairs(fake: FakeStudy) -> None:
    runs = [(fake.finetune("random", seed), fake.ood("supervised", seed)) for seed in range(3)]
    study = read_study(fake.path)
    test, ood_hits = (np.stack([hits_on_shared(pair[place]) for pair in runs]) for place in (0, 1))
    found = shift.change(study, model_of("supervised"))
    assert found == statistics.difference(ood_hits, test, same_images=False, same_seeds=True)
    assert found != statistics.difference(ood_hits, test, same_images=False)
    (row,) = differences.changes(study).to_dict("records")
    expected = float(np.mean([accuracy(two) - accuracy(one) for one, two in runs]))
    assert [row["value"], row["low"], row["high"]] == pytest.approx([expected, found.low, found.high])
