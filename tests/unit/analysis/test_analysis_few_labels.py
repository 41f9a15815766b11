import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_study import FakeStudy
from scipy import stats

from analysis import differences, statistics, tables
from analysis.few_labels import SCRATCH, gains, points
from analysis.figures import style
from analysis.names import Model
from analysis.reading import read_study
from analysis.sections import few_labels, folds, front

PROBE, FINETUNED = Model("simclr", "probe"), Model("simclr", "finetune")


@pytest.fixture
def study(fake: FakeStudy) -> FakeStudy:
    fake.images = 500
    fake.pretrain("simclr")
    fake.few_labels(
        "simclr", skills={(10, "probe"): 0.8, (50, "probe"): 0.8, (10, "finetune"): 0.6, (50, "finetune"): 0.3}
    )
    fake.few_labels(
        "random", skills={(10, "probe"): 0.2, (50, "probe"): 0.2, (10, "finetune"): 0.6, (50, "finetune"): 0.6}
    )
    return fake


def test_rows_belong_to_the_model_that_the_adaptation_makes(study: FakeStudy) -> None:
    rows = read_study(study.path).results
    rows = rows[(rows["evaluation"] == "few_labels") & (rows["draw"] == 1) & (rows["labels_per_class"] == 50)]
    values = dict(zip(rows["model"], rows["value"], strict=True))
    assert values.keys() == {PROBE, FINETUNED, SCRATCH, Model("random", "probe")}
    assert set(rows["adaptation"].dropna()) == {"probe", "finetune"}
    found = points(read_study(study.path))
    assert values[SCRATCH] == pytest.approx(found[SCRATCH][50].hits[0, 1].mean())
    assert values[PROBE] == pytest.approx(found[PROBE][50].hits[0, 1].mean())


def test_a_point_has_the_draws_of_every_seed(study: FakeStudy) -> None:
    study.few_labels("simclr", 1, skills={(10, "probe"): 0.8})
    point = points(read_study(study.path))[PROBE][10]
    assert (point.seeds, point.draws) == ((0, 1), (0, 1, 2, 3))
    assert point.hits.shape == (2, 4, 500)
    assert point.mean == statistics.mean(point.hits)


def test_a_draw_that_a_seed_lacks_is_left_out(study: FakeStudy) -> None:
    run = study.few_labels("simclr", 1, skills={(10, "probe"): 0.8})
    with np.load(run / "few_labels.npz") as arrays:
        content = dict(arrays)
    content["hits"][2] = -1
    np.savez_compressed(run / "few_labels.npz", **content)
    point = points(read_study(study.path))[PROBE][10]
    assert (point.seeds, point.draws) == ((0, 1), (0, 1, 3))


def test_models_with_the_same_draws_are_paired(study: FakeStudy) -> None:
    study.few_labels("simclr", 1, skills={(10, "probe"): 0.8})
    for seed in (0, 1):  # draws that are good for one model are good for the other
        for method, rest in (("simclr", 0.2), ("random", 0.0)):
            run = study.path / f"few_labels-{method}-s{seed}"
            if not run.exists():
                continue
            with np.load(run / "few_labels.npz") as arrays:
                content = dict(arrays)
            for row, draw in enumerate(content["draw"]):
                content["hits"][row] = np.arange(500) % 10 < 10 * (0.3 + 0.1 * draw + rest)
            np.savez_compressed(run / "few_labels.npz", **content)
    found = points(read_study(study.path))
    by_model = {(gain.model, gain.labels_per_class): gain.difference for gain in gains(found)}
    one, two = found[FINETUNED][50].hits, found[SCRATCH][50].hits
    paired, unpaired = (statistics.difference(one, two, same_images=True, same_draws=same) for same in (True, False))
    assert by_model[FINETUNED, 50] == paired
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)
    one, two = found[PROBE][10].hits, found[SCRATCH][10].hits  # two seeds against one
    assert by_model[PROBE, 10] == statistics.difference(one, two, same_images=True, same_draws=True)


def test_two_models_are_compared_on_the_draws_that_both_have(study: FakeStudy) -> None:
    file = study.path / "few_labels-random-s0" / "few_labels.npz"
    with np.load(file) as arrays:
        content = dict(arrays)
    lost = (content["labels_per_class"] == 10) & (content["finetuned"] == 1) & (content["draw"] == 2)
    content["hits"][lost] = -1
    np.savez_compressed(file, **content)
    found = points(read_study(study.path))
    one, two = found[PROBE][10].hits[:, [0, 1, 3]], found[SCRATCH][10].hits
    gain = next(gain for gain in gains(found) if (gain.model, gain.labels_per_class) == (PROBE, 10))
    assert gain.difference == statistics.difference(one, two, same_images=True, same_draws=True)


def test_equal_models_are_equivalent_with_enough_images(study: FakeStudy) -> None:
    hits = np.random.default_rng(0).random((1, 3, 20_000)) < 0.6
    point = few_labels.Point((0,), (0, 1, 2), hits)
    (gain,) = gains({PROBE: {10: point}, SCRATCH: {10: point}})
    assert (gain.verdict, gain.difference.value) == ("equivalent", 0)


def test_the_section_says_which_variation_is_missing(fake: FakeStudy, tmp_path: Path) -> None:
    def text() -> str:
        with style.styled():
            return str(few_labels.section(read_study(fake.path), tmp_path).blocks[0]["text"])

    fake.few_labels("random", draws=1)
    assert "only one seed or subset, the variation between seeds and subsets is in no interval" in text()
    for method in ("random", "simclr"):
        shutil.rmtree(fake.path / f"few_labels-{method}-s0", ignore_errors=True)
        for seed in (0, 1):
            fake.few_labels(method, seed, draws=2)
    assert "only one" not in text()


def test_the_comparisons_are_one_family(study: FakeStudy) -> None:
    found = points(read_study(study.path))
    family = gains(found)
    assert [(gain.model, gain.labels_per_class) for gain in family] == [
        (model, size) for model in (Model("random", "probe"), PROBE, FINETUNED) for size in (10, 50)
    ]
    smallest = min(gain.difference.p for gain in family)
    assert min(gain.p_holm for gain in family) == pytest.approx(len(family) * smallest)
    for gain in family:
        own, scratch = found[gain.model][gain.labels_per_class].hits, found[SCRATCH][gain.labels_per_class].hits
        assert gain.difference.value == pytest.approx(own.mean() - scratch.mean())


def test_the_section_says_where_pretraining_pays(study: FakeStudy, tmp_path: Path) -> None:
    with style.styled():
        made = few_labels.section(read_study(study.path), tmp_path)
    (sentences,) = (block["items"] for block in made.blocks if block["kind"] == "items")
    probe = next(text for text in sentences if "probe against Supervised from scratch: clearly above" in text)
    assert "10 labels per class" in probe
    assert "50 labels per class" in probe
    finetuned = next(text for text in sentences if "fine-tuned" in text)
    assert "clearly below" in finetuned
    assert finetuned.index("50 labels") < finetuned.index("undecided")
    (table,) = (block for block in made.blocks if block["kind"] == "table")
    assert table["headings"] == ["Labels per class", "10", "50"]
    assert [name for _, _, name in made.figures] == ["few-labels"]


def test_a_random_network_is_no_pretraining_that_pays(study: FakeStudy) -> None:
    shutil.rmtree(study.path / "few_labels-random-s0")
    few = {(size, name): {"probe": 0.9, "finetune": 0.5}[name] for size in (10, 50) for name in ("probe", "finetune")}
    study.few_labels("random", skills=few)
    found = read_study(study.path)
    assert any(gain.model == Model("random", "probe") and gain.verdict == "clear" for gain in gains(points(found)))
    (sentence,) = (text for text in front.answers(found) if text.startswith("Gains over supervised"))
    assert "SimCLR probe" in sentence
    assert "Random" not in sentence


def test_the_first_page_has_the_interval_and_the_corrected_p_of_a_gain(study: FakeStudy) -> None:
    found = read_study(study.path)
    (sentence,) = (text for text in front.answers(found) if text.startswith("Gains over supervised"))
    clear = [gain for gain in gains(points(found)) if gain.model == PROBE and gain.verdict == "clear"]
    assert clear
    for gain in clear:
        assert f"SimCLR probe {tables.gain_text(gain.difference)} ({tables.p_text(gain.p_holm)})" in sentence


def test_a_model_without_a_result_is_left_out(study: FakeStudy) -> None:
    file = study.path / "few_labels-simclr-s0" / "few_labels.npz"
    with np.load(file) as arrays:
        content = dict(arrays)
    content["hits"][content["finetuned"] == 1] = -1
    np.savez_compressed(file, **content)
    assert FINETUNED not in points(read_study(study.path))


def test_no_section_without_runs(fake: FakeStudy, tmp_path: Path) -> None:
    fake.pretrain("simclr")
    assert not few_labels.section(read_study(fake.path), tmp_path).blocks


def test_models_trained_on_folds_are_averaged(fake: FakeStudy, tmp_path: Path) -> None:
    fake.pretrain("simclr")
    files = {name: fake.probe(name) / "predictions.npz" for name in ("random", "simclr")}
    files["finetune"] = fake.few_labels("simclr") / "few_labels.npz"
    assert not folds.section(read_study(fake.path), tmp_path).blocks
    hits = np.zeros((2, 100), np.int8)
    hits[0, :60], hits[1, :40] = 1, 1
    fifth = np.int8(np.arange(fake.images) % 5 == [[5], [0]])  # none and a fifth of the images
    for name, own in {"random": 0 * hits - 1, "simclr": hits, "finetune": fifth}.items():
        with np.load(files[name]) as arrays:
            np.savez_compressed(files[name], **arrays, fold_hits=own)
    (table,) = (block for block in folds.section(read_study(fake.path), tmp_path).blocks if block["kind"] == "table")
    means = [statistics.mean(own == 1) for own in (hits, fifth)]
    cells = [f"{100 * mean.value:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]" for mean in means]
    assert table["rows"] == [["SimCLR probe", cells[0], "14.1"], ["SimCLR fine-tuned", cells[1], "14.1"]]
    assert (cells[0][:5], cells[1][:5]) == ("50.0 ", "10.0 ")


def test_the_points_of_different_models_are_side_by_side_in_the_same_order_at_each_size(study: FakeStudy) -> None:
    found = read_study(study.path)
    with style.styled():
        (axes,) = few_labels._figure(found, points(found)).axes
    places = np.array([[segment[0, 0] for segment in bars.get_segments()] for bars in axes.collections])
    assert places.shape == (4, 2)  # models, sizes
    assert (np.diff(places, axis=0) > 0).all()
    assert places[:, 0].max() < 25 < places[:, 1].min()
    assert np.prod(places, axis=0) == pytest.approx([10**4, 50**4])


def single(*turned: int) -> few_labels.Point:
    """The hits of one training on 100 images, of which it gets 50 right, except for those that are turned."""
    hits = np.arange(100) < 50
    hits[list(turned)] ^= True
    return few_labels.Point((0,), (0,), hits[None, None])


@pytest.mark.parametrize(("sizes", "verdict"), [((10,), "clear"), ((10, 25, 50), "undecided")])
def test_the_verdict_of_a_gain_is_that_of_its_corrected_p(sizes: tuple[int, ...], verdict: str) -> None:
    better, scratch = single(0, *range(50, 59)), single()  # one image lost, nine gained
    p = stats.binomtest(9, 10).pvalue
    family = gains({PROBE: dict.fromkeys(sizes, better), SCRATCH: dict.fromkeys(sizes, scratch)})
    assert [(gain.difference.p, gain.p_holm) for gain in family] == [
        (pytest.approx(p), pytest.approx(len(sizes) * p))
    ] * len(sizes)
    assert {gain.verdict for gain in family} == {verdict}


def test_models_on_other_test_images_are_not_compared() -> None:
    fewer = few_labels.Point((0,), (0,), single().hits[..., :40])
    found = gains({PROBE: {10: fewer, 50: single(70)}, SCRATCH: {10: single(), 50: single()}})
    assert [gain.labels_per_class for gain in found] == [50]


def test_seeds_on_other_test_images_are_no_point(study: FakeStudy) -> None:
    file = study.few_labels("simclr", 1, skills={(10, "probe"): 0.8}) / "few_labels.npz"
    with np.load(file) as arrays:
        content = dict(arrays)
    np.savez_compressed(file, **(content | {"hits": content["hits"][:, :400]}))
    assert 10 not in points(read_study(study.path))[PROBE]


def test_a_single_draw_that_both_models_have_is_compared_without_the_others() -> None:
    hits = np.random.default_rng(1).random((2, 1, 2, 300)) < 0.6
    first, second = few_labels.Point((0,), (0, 1), hits[0]), few_labels.Point((0,), (1, 2), hits[1])
    (gain,) = gains({PROBE: {10: first}, SCRATCH: {10: second}})
    assert gain.difference.value == pytest.approx(hits[0, 0, 1].mean() - hits[1, 0, 0].mean())
    apart = few_labels.Point((0,), (2, 3), hits[1])
    (gain,) = gains({PROBE: {10: first}, SCRATCH: {10: apart}})
    assert gain.difference.value == pytest.approx(hits[0].mean() - hits[1].mean())


def test_the_csv_has_every_point_and_its_gain_with_the_corrected_p(study: FakeStudy) -> None:
    read = read_study(study.path)
    found = points(read)
    frame = differences.few_labels(read).set_index(["model", "labels_per_class"])
    assert len(frame) == sum(map(len, found.values()))
    for gain in gains(found):
        row, gap = frame.loc[(gain.model.name, gain.labels_per_class)], gain.difference
        own, scratch = (found[model][gain.labels_per_class].hits.mean() for model in (gain.model, SCRATCH))
        assert row[["value", "gain"]].tolist() == pytest.approx([own, own - scratch])
        assert row[["gain_low", "gain_high", "p_holm"]].tolist() == pytest.approx([gap.low, gap.high, gain.p_holm])
        assert row["verdict"] == gain.verdict
    assert frame.loc[SCRATCH.name, ["gain", "p_holm"]].isna().all(axis=None)
