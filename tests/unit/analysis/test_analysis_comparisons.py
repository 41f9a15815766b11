import dataclasses
import json
import shutil

import pandas as pd
import pytest
from fake_contents import model_of, models_of
from fake_reports import Whole
from fake_study import FakeStudy
from statsmodels.stats.multitest import multipletests

from analysis import comparisons
from analysis.comparisons import (
    MEAN_CORRUPTED,
    OOD,
    OOD_CLASSES,
    OOD_MASKED,
    OOD_PAIRS,
    OOD_SHARED,
    OVER_PROBE,
    OVER_RANDOM,
    PLANNED,
    TEST,
    TEST_CLASSES,
    TEST_PAIRS,
    compared,
)
from analysis.estimates import NONE, Difference, difference, estimate
from analysis.reading import read_study
from analysis.sections import comparisons as section
from analysis.sections import findings, front
from analysis.statistics import holm


def test_each_family_is_corrected_on_its_own(whole: Whole) -> None:
    found = comparisons.comparisons(whole.study)
    assert set(PLANNED) <= set(found)
    for family, entries in found.items():
        p_values = [entry.difference.p for entry in entries]
        assert None not in p_values
        assert [entry.p_holm for entry in entries] == holm([p for p in p_values if p is not None]), family.label
    sizes = {family: len(found[family]) for family in (TEST, OVER_PROBE, TEST_PAIRS, TEST_CLASSES)}
    methods, models = len(whole.fake.methods) - 1, len(whole.study.models)
    assert sizes == {
        TEST: 2 * methods,
        OVER_PROBE: methods,
        TEST_PAIRS: models * (models - 1) // 2,
        TEST_CLASSES: 2 * methods * len(whole.fake.classes),
    }


def test_every_family_compares_what_its_label_says(whole: Whole) -> None:
    found = comparisons.comparisons(whole.study)
    supervised, random = models_of("supervised", "random-probe")
    probes, finetuned = (models_of(f"byol-{use}", f"barlow-{use}") for use in ("probe", "finetune"))
    pairs = {family: [(entry.first, entry.second) for entry in entries] for family, entries in found.items()}
    assert pairs[OVER_RANDOM] == [(model, random) for model in probes]
    assert pairs[OVER_PROBE] == list(zip(finetuned, probes, strict=True))
    for family in (TEST, OOD, OOD_SHARED, OOD_MASKED, MEAN_CORRUPTED):
        assert pairs[family] == [(model, supervised) for model in [*probes, *finetuned]]
    for family, entries in found.items():
        for entry in entries:
            one, two = (
                estimate(whole.study, model, family.evaluation, family.metric, entry.dimensions)
                for model in (entry.first, entry.second)
            )
            assert one is not None
            assert two is not None
            assert entry.difference.value == pytest.approx(one.value - two.value), family.label
    kinds = {family: (family.evaluation, family.metric) for family in found}
    assert kinds == {
        **dict.fromkeys((TEST, OVER_RANDOM, OVER_PROBE, TEST_PAIRS, TEST_CLASSES), ("test", "accuracy")),
        **dict.fromkeys((OOD, OOD_PAIRS, OOD_CLASSES), ("ood", "accuracy")),
        OOD_SHARED: ("ood", "accuracy_shared"),
        OOD_MASKED: ("ood", "accuracy_masked"),
        MEAN_CORRUPTED: ("corruptions", "mean_accuracy"),
    }


def test_equivalence_is_corrected_too() -> None:
    gap = Difference(0.0, -0.009, 0.009, 0.9, 0.03, "images")
    entries = [comparisons.Comparison(TEST, *models_of("byol-probe", "supervised"), NONE, gap)] * 2
    assert [entry.verdict for entry in comparisons._corrected(entries[:1])] == ["equivalent"]
    assert [entry.verdict for entry in comparisons._corrected(entries)] == ["undecided"] * 2
    assert [entry.p_equivalent_holm for entry in comparisons._corrected(entries)] == [0.06] * 2


def test_the_verdicts_follow_from_the_corrected_p_values(whole: Whole) -> None:
    verdicts = set()
    for entries in comparisons.comparisons(whole.study).values():
        for entry in entries:
            assert entry.p_holm is not None
            assert (entry.verdict == "clear") == (entry.p_holm < 0.05)
            verdicts.add(entry.verdict)
    assert {"clear", "undecided"} <= verdicts


def test_a_pair_is_found_in_either_order(whole: Whole) -> None:
    first, second = models_of("byol-probe", "random-probe")
    one, two = compared(whole.study, TEST_PAIRS, first, second), compared(whole.study, TEST_PAIRS, second, first)
    assert one is not None
    assert two is not None
    assert one.difference.value == -two.difference.value > 0
    assert one.difference.low == -(two.difference.high or 0)
    assert (one.first, two.first) == (first, second)
    assert compared(whole.study, TEST, first, second) is None


def test_comparisons_csv_has_every_comparison(whole: Whole) -> None:
    frame = pd.read_csv(whole.out / "tables" / "comparisons.csv")
    assert len(frame) == sum(map(len, comparisons.comparisons(whole.study).values()))
    assert frame[["value", "low", "high", "p", "p_holm", "p_equivalent_holm", "verdict"]].notna().all(axis=None)
    assert (frame["low"] <= frame["high"]).all()
    assert (frame["p"] <= frame["p_holm"]).all()
    own = frame[(frame["family"] == TEST.label) & (frame["first"] == "byol-finetune")].iloc[0]
    expected = difference(whole.study, *models_of("byol-finetune", "supervised"), "test")
    assert expected is not None
    assert own[["value", "low", "high"]].tolist() == pytest.approx([expected.value, expected.low, expected.high])
    assert own["paired_by"] == "images"


def test_the_section_has_a_table_for_each_planned_family_and_says_what_one_seed_means(whole: Whole) -> None:
    text, *tables = section.section(whole.study).blocks
    assert [table["caption"].partition(". ")[0] for table in tables] == [family.label for family in PLANNED]
    assert "McNemar" in text["text"]


def test_a_difference_without_an_interval_is_not_corrected(fake: FakeStudy) -> None:
    fake.finetune("random")
    for method in ("simclr", "byol"):
        fake.finetune(method)
    run = fake.path / "finetune-byol-s0"
    result = json.loads((run / "result.json").read_text())
    rows = [{**row, "low": None, "high": None} for row in result["rows"]]
    (run / "result.json").write_text(json.dumps(result | {"rows": rows}))
    (run / "predictions.npz").unlink()
    one, two = comparisons.comparisons(read_study(fake.path))[TEST]
    assert one.p_holm == one.difference.p
    assert (two.p_holm, two.p_equivalent_holm, two.verdict, two.difference.low) == (None,) * 4


def test_the_sentence_about_the_best_model_says_if_the_next_one_is_better_over_the_shared_seeds() -> None:
    models = models_of("byol-finetune", "byol-probe")
    gap = Difference(-0.005, -0.02, 0.01, 0.5, 0.4, "seeds and images")
    entry = comparisons.Comparison(TEST_PAIRS, *models, NONE, gap, 0.5, 0.4, "undecided")
    said = "0.5 points ahead over the seeds that both have [−1.0, +2.0], p = .500"  # noqa: RUF001
    assert findings._behind(entry).startswith(said)
    ahead = dataclasses.replace(entry, difference=gap.reversed())
    assert findings._behind(ahead).startswith("0.5 points behind [−1.0, +2.0]")  # noqa: RUF001


def test_a_variant_is_compared_with_the_random_probe_of_its_variant(fake: FakeStudy) -> None:
    fake.probe("random")
    study = read_study(fake.path)
    assert comparisons.random_probe(study, model_of("simclr-probe", "seed=1")) == model_of("random-probe")


def test_equal_models_are_equivalent_if_there_are_enough_images(fake: FakeStudy) -> None:
    fake.images = 4000
    fake.finetune("random")
    run = fake.finetune("simclr")
    for name in ("predictions.npz", "result.json"):
        shutil.copy(fake.path / "finetune-random-s0" / name, run / name)
    result = json.loads((run / "result.json").read_text())
    content = result | {"stage": "finetune", "method": "simclr", "adaptation": "finetune", "model": "simclr-finetune"}
    (run / "result.json").write_text(json.dumps(content))
    study = read_study(fake.path)
    (entry,) = comparisons.comparisons(study)[TEST]
    assert (entry.difference.value, entry.verdict) == (0, "equivalent")
    best = next(text for text in front.answers(study) if text.startswith("Test accuracy"))
    assert best.endswith("equivalent.")
    assert "Supervised and SimCLR fine-tuned are equal and highest with 66.0 [" in best


@pytest.mark.slow
def test_the_p_values_of_comparisons_csv_are_those_of_the_differences_and_of_holms_method(whole: Whole) -> None:
    frame = pd.read_csv(whole.out / "tables" / "comparisons.csv")
    for family, entries in comparisons.comparisons(whole.study).items():
        own = frame[frame["family"] == family.label]
        p_values = [[entry.difference.p, entry.difference.p_equivalent] for entry in entries]
        p, p_equivalent = zip(*p_values, strict=True)
        assert own["p"].tolist() == pytest.approx(p)
        assert own["p_holm"].tolist() == pytest.approx(multipletests(p, method="holm")[1])
        assert own["p_equivalent_holm"].tolist() == pytest.approx(multipletests(p_equivalent, method="holm")[1])
