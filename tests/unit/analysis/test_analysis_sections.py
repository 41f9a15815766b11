# ruff: noqa: RUF001 (texts for people have superscripts and minus signs)

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_contents import model_of
from fake_study import CLASSES, FakeStudy
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from analysis import statistics
from analysis.blocks import Block, Section
from analysis.estimates import Estimate
from analysis.figures import curves, style
from analysis.measures import Measurement
from analysis.reading import read_study
from analysis.sections import accuracy, findings, front, sources, training, width
from analysis.shift import change
from analysis.tables import fixed
from analysis.trials import below_probe
from analysis.widths import Measured
from ssl_pkg.catalogue import adapted
from ssl_pkg.rows import dimensions_of
from ssl_pkg.run.directory import model_name


def tables(section: Section) -> list[Block]:
    return [block for block in section.blocks if block["kind"] == "table"]


def test_choices_are_shown_only_for_more_than_one_candidate(fake: FakeStudy, tmp_path: Path) -> None:
    fake.pretrain("byol")
    fake.pretrain("simclr")
    fake.probe("byol")
    fake.finetune("byol", candidates=1)
    with style.styled():
        table, trials = tables(training.section(read_study(fake.path), tmp_path))
        assert [row[0] for row in table["rows"]] == ["BYOL probe"]
        assert table["headings"] == ["Model", "Validation accuracy (%)", "Log loss", "l2"]
        assert trials["rows"] == [["0.0003", "0.05", "off", "probe", "70.0 / 0.900 *"]]
        fake.finetune("simclr", candidates=2)
        table, trials = tables(training.section(read_study(fake.path), tmp_path))
    assert [row[0] for row in table["rows"]] == ["SimCLR fine-tuned", "BYOL probe"]
    assert table["headings"][2:] == ["Log loss", "l2"]
    assert trials["headings"][4:] == ["SimCLR fine-tuned", "BYOL fine-tuned"]
    assert trials["rows"][1] == ["0.001", "0.05", "off", "probe", "65.0 / 1.000", "–"]


def test_a_fit_that_did_not_converge_is_named_below_the_choices(fake: FakeStudy, tmp_path: Path) -> None:
    file = fake.probe("random") / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"notes": ["the fit on all of train did not converge"]}))
    with style.styled():
        blocks = training.section(read_study(fake.path), tmp_path).blocks
    (notes,) = (block["items"] for block in blocks if block["kind"] == "items")
    assert notes == ["probe-random-s0: the fit on all of train did not converge."]


def test_the_trials_of_several_seeds_are_averaged_and_their_choices_counted(fake: FakeStudy, tmp_path: Path) -> None:
    for seed in (0, 1):
        file = fake.finetune("byol", seed) / "result.json"
        result = json.loads(file.read_text())
        if seed == 1:
            result["chosen"] = "trial 2"
            result["tried"][0] |= {"accuracy": None, "log_loss": None, "reason": "it diverged"}
            result["tried"][1] |= {"accuracy": 0.75, "log_loss": 0.8}
        file.write_text(json.dumps(result))
    with style.styled():
        *_, trials = tables(training.section(read_study(fake.path), tmp_path))
    assert [row[-1] for row in trials["rows"]] == ["70.0 / 0.900 *", "70.0 / 0.900 *"]


@pytest.mark.parametrize("own", [0.2, 0.4, 0.7])  # of 40 images; Wilson's interval of .4 contains .5
def test_a_model_clearly_below_its_own_probe_on_validation_is_named(fake: FakeStudy, own: float) -> None:
    fake.probe("byol")  # .5 on validation
    file = fake.finetune("byol") / "result.json"
    result = json.loads(file.read_text())
    for row in result["rows"]:
        if (row["evaluation"], row["metric"]) == ("validation", "accuracy"):
            low, high = proportion_confint(round(own * row["n"]), row["n"], method="wilson")
            row |= {"value": own, "low": low, "high": high}
    file.write_text(json.dumps(result))
    study = read_study(fake.path)
    said = below_probe(study)
    assert bool(said) == ("BYOL fine-tuned 20.0 [" in said) == (own == 0.2)
    (listed,) = (block for block in findings.section(study).blocks if block["kind"] == "items")
    assert (said in listed["items"]) == bool(said)


def test_the_health_of_all_methods_shares_four_panels(fake: FakeStudy) -> None:
    fake.finetune("random")
    for method in ("simclr", "byol"):
        fake.pretrain(method)
    with style.styled():
        figure = curves.health(read_study(fake.path))
    assert figure is not None
    panels = {axes.get_title(): axes.get_lines() for axes in figure.axes}
    assert len(panels) == 4
    assert [len(lines) for lines in panels.values()] == [2, 2, 2, 2]
    ranks = [line.get_ydata() for line in panels["effective rank of the embeddings"]]
    assert [list(rank) for rank in ranks] == [[29.0], [29.0]]


def sentences(fake: FakeStudy) -> list[str]:
    study = read_study(fake.path)
    found = [item for block in findings.section(study).blocks for item in block.get("items", [])]
    return [*filter(None, front.answers(study)), *found]


def test_tuned_hyperparameters_are_named_before_methods_are_ranked(fake: FakeStudy) -> None:
    for method in ("simclr", "byol"):
        run = fake.pretrain(method)
        fake.probe(method)
        if method == "byol":
            config = yaml.safe_load((run / "config.yaml").read_text())
            config["method"]["tuned"] = ["model.target_decay", "optimizer.base_lr"]
            (run / "config.yaml").write_text(yaml.safe_dump(config))
    seeds, tuned, best, *_ = sentences(fake)
    assert seeds.startswith("Each model has one seed")
    assert "SimCLR none, BYOL 2 (target decay and base lr)." in tuned
    assert "is highest" in best


def test_the_loss_out_of_distribution_has_the_interval_of_two_independent_proportions(fake: FakeStudy) -> None:
    for method in ("simclr", "byol"):
        fake.pretrain(method)
        fake.probe(method)
        fake.ood(f"{method}-probe")
    (text,) = (
        text for text in sentences(fake) if text.startswith("OOD accuracy minus test accuracy on the shared classes: ")
    )
    expected = set()
    for method in ("simclr", "byol"):
        counts = []
        for run in (f"ood-{method}-probe-s0", f"probe-{method}-s0"):
            with np.load(fake.path / run / "predictions.npz") as saved:
                shared = saved["labels"] != CLASSES.index("monkey")
                hits = (saved["logits"].argmax(1) == saved["labels"])[shared]
                counts.append((int(hits.sum()), len(hits)))
        (one, n), (two, m) = counts
        low, high = confint_proportions_2indep(one, n, two, m, method="agresti-caffo", compare="diff")
        expected.add(tuple(round(100 * value, 1) for value in (one / n - two / m, low, high)))
    numbers = re.findall(r"([+−][\d.]+) points \[([+−][\d.]+), ([+−][\d.]+)\]", text)
    found = [tuple(float(number.replace("−", "-")) for number in entry) for entry in numbers]
    for entry, wanted in zip(sorted(found), sorted(expected), strict=True):
        assert entry == pytest.approx(wanted, abs=0.3)  # Student's quantile, n - 1, and rounded texts


def test_the_loss_out_of_distribution_pairs_the_seeds(fake: FakeStudy) -> None:
    labels = np.arange(fake.images) % 10
    ood, test = (
        np.stack([np.random.default_rng([seed, number]).random(len(labels)) < 0.2 + 0.3 * seed for seed in range(3)])
        for number in range(2)
    )
    for seed in range(3):  # a seed that is good on test is good out of distribution
        for run, hits in ((fake.probe("simclr", seed), test), (fake.ood("simclr-probe", seed), ood)):
            logits = np.eye(10)[np.where(hits[seed], labels, (labels + 1) % 10)]
            np.savez(run / "predictions.npz", logits=logits, labels=labels)
    shared = labels != CLASSES.index("monkey")
    expected, unpaired = (
        statistics.difference(ood[:, shared], test[:, shared], same_images=False, same_seeds=same)
        for same in (True, False)
    )
    assert change(read_study(fake.path), model_of("simclr-probe")) == expected
    assert expected.high - expected.low < 0.5 * (unpaired.high - unpaired.low)


def test_the_spread_of_a_width_is_the_longer_half_of_its_interval() -> None:
    found = Measured(Estimate(2.0, 1.5, 2.7, None, 100, {0: 2.0}))
    assert width._cell(found, lambda value: fixed(value, 1)) == "2.0\u00a0±\u00a00.7"


def test_a_study_without_tuned_hyperparameters_says_nothing_of_them(fake: FakeStudy) -> None:
    for method in ("simclr", "byol"):
        fake.pretrain(method)
        fake.probe(method)
    assert not any("tuned" in text for text in sentences(fake))


def test_the_values_of_the_measures_can_be_read_back(fake: FakeStudy, tmp_path: Path) -> None:
    for model in ("supervised", "byol-probe"):
        fake.width(model)
    fake.pretrain("byol", complete=False)
    study = read_study(fake.path)
    with style.styled():
        _, ratios, *values = tables(width.section(study, tmp_path))
    written = {
        (Measurement(row["metric"], dimensions_of(row)).label, study.model_label(model_of(row["model"]))): row["value"]
        for row in fake.written
    }
    for label, *cells in ratios["rows"]:
        for model, cell in zip(ratios["headings"][1:], cells, strict=True):
            ratio = written[label, model] / written.pop((f"{label}, first order", model))
            assert float(cell) == pytest.approx(ratio, abs=0.0051)
    whole, head, common = values
    assert whole["headings"] == ["Measure", "Supervised", "BYOL probe"]
    assert head["headings"] == common["headings"] == ["Measure", "BYOL probe"]
    powers = set()
    for table in values:
        for label, *cells in table["rows"]:
            measure, _, unit = label.partition(", in\u00a010")
            power = int((unit or "0").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
            powers.add(power)
            for model, cell in zip(table["headings"][1:], cells, strict=True):
                assert re.fullmatch(r"−?[0-9,]{1,6}(\.[0-9]+)?", cell)
                value = float(cell.replace(",", "").replace("−", "-")) * 10.0**power
                rounding = 0.51 * 10.0 ** (power - len(cell.partition(".")[2]))
                assert value == pytest.approx(written.pop((measure, model)), abs=rounding)
    assert not written
    assert powers == {-3, 0, 3}


@pytest.mark.parametrize(
    ("factor", "sentence"),
    [
        (1.9, "every model up to radius 0.0005; at radius 0.001 it is not for Supervised."),
        (None, "every model at none of these radii; at radius 0.00025 it is unknown for Supervised."),
        (2.1, "every model at none of these radii; at radius 0.00025 it is not for Supervised."),
        (0.6, "every model up to radius 0.001, the largest measured."),
    ],
)
def test_a_radius_is_local_if_the_rise_is_at_most_twice_its_prediction(
    fake: FakeStudy, tmp_path: Path, factor: float | None, sentence: str
) -> None:
    fake.pretrain("supervised", complete=False)
    run = fake.width("supervised")
    result = json.loads((run / "result.json").read_text())
    for row in result["rows"]:
        if row.get("measure") == "adaptive_worst":
            local = row["radius"] <= 0.0005 and row["normalized"]
            row["value"] = 1.0 if row["metric"] == "first_order" else factor and (factor if local else 3 * factor)
            if row["value"] is None:
                row["reason"] = "it is not finite"
    (run / "result.json").write_text(json.dumps(result))
    with style.styled():
        blocks = width.section(read_study(fake.path), tmp_path).blocks
    assert any(block.get("text", "").endswith(sentence) for block in blocks)


@pytest.mark.parametrize(
    ("stage", "method", "explained"),
    [("probe", "random", False), ("finetune", "random", True), ("finetune", "byol", True)],
)
def test_the_advantage_of_knn_is_explained_if_a_head_was_trained_on_crops(
    fake: FakeStudy, stage: str, method: str, explained: bool
) -> None:
    {"probe": fake.probe, "finetune": fake.finetune}[stage](method)
    fake.embed(model_name(*adapted(method, stage)))
    with style.styled():
        text = accuracy.section(read_study(fake.path)).blocks[0]["text"]
    assert "kNN on test: weighted nearest neighbours of the test images" in text
    assert ("trained on random crops" in text) is explained


def test_the_sources_list_the_papers_of_the_studys_methods_and_of_no_others(fake: FakeStudy) -> None:
    for method in ("byol", "barlow"):
        fake.pretrain(method)
    (block,) = sources.section(read_study(fake.path)).blocks
    assert block["items"][:2] == ["The paper of byol", "The paper of barlow"]
    assert not any("simclr" in item.lower() for item in block["items"])


def test_a_loss_below_zero_is_inside_its_panel(fake: FakeStudy) -> None:
    run = fake.pretrain("byol")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [line | {"loss": -line["loss"]} if "loss" in line else line for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with style.styled():
        figure = curves.details(read_study(fake.path))
    assert figure
    lowest, highest = figure.axes[0].get_ylim()
    assert lowest < min(line["loss"] for line in lines if "loss" in line) < highest
