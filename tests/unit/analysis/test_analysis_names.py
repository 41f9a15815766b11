from typing import Any

import pytest
from fake_contents import model_of

from analysis import names
from analysis.measures import Measurement, chosen, in_order
from analysis.words import language


def measured(measure: str, **dimensions: Any) -> Measurement:
    return Measurement("width", frozenset({"measure": measure, **dimensions}.items()))


@pytest.mark.parametrize(
    ("measurement", "label", "short"),
    [
        (
            measured("adaptive_worst", radius=0.03, scope="network", normalized=False),
            "Adaptive worst-case sharpness, radius 0.03",
            "Adaptive worst-case sharpness (radius 0.03)",
        ),
        (
            measured("keskar", scope="head", normalized=True),
            "Keskar sharpness, normalised logits, head only",
            "Keskar sharpness (normalised logits, head only)",
        ),
        (
            measured("hessian_eigenvalue", eigenvalue=2, scope="head", penalty="common", normalized=False),
            "Hessian, eigenvalue 2, head only, common l2",
            "Hessian, eigenvalue 2 (head only, common l2)",
        ),
        (
            measured("adaptive_worst", radius=0.03).first_order,
            "Adaptive worst-case sharpness, radius 0.03, first order",
            "Adaptive worst-case sharpness (radius 0.03, first order)",
        ),
        (Measurement("loss"), "Loss on the subset", "Loss on the subset"),
        (measured("novel_2", normalized=True), "novel_2, normalised logits", "novel_2 (normalised logits)"),
        (measured("head"), "head", "head"),
    ],
)
def test_a_measurement_has_a_label_with_its_dimensions(measurement: Measurement, label: str, short: str) -> None:
    assert (measurement.label, measurement.short) == (label, short)


def test_measurements_are_ordered_by_scope_normalisation_measure_and_radius() -> None:
    expected = [
        measured("adaptive_worst", radius=0.03),
        measured("adaptive_worst", radius=0.1),
        measured("keskar"),
        Measurement("loss"),
        measured("novel"),
        measured("keskar", normalized=True),
        measured("adaptive_worst", radius=0.03).first_order,
        measured("keskar", scope="head"),
        measured("hessian_eigenvalue", scope="head", eigenvalue=1),
        measured("hessian_eigenvalue", scope="head", eigenvalue=2),
        measured("keskar", scope="head", penalty="common"),
    ]
    assert in_order(reversed([*expected, *expected])) == expected


def test_the_chosen_measure_is_normalised_worst_case_sharpness_at_the_smallest_radius() -> None:
    radii = [measured("adaptive_worst", radius=radius, normalized=True) for radius in (0.1, 0.2, 0.4)]
    others = [measured("adaptive_worst", radius=0.2, normalized=False), measured("keskar", normalized=True)]
    others += [entry.first_order for entry in radii]
    others += [measured("adaptive_worst", radius=0.2, normalized=True, scope="head")]
    assert chosen(reversed([*radii, *others])) == radii[0]
    assert chosen(others) is None


@pytest.mark.parametrize(
    ("name", "method", "label"),
    [
        ("moco-finetune", "moco", "MoCo v2 fine-tuned"),
        ("supervised", "supervised", "Supervised"),
        ("barlow-twins-probe", "barlow-twins", "barlow-twins probe"),
        ("random-probe", "random", "Random init. probe"),
    ],
)
def test_a_model_has_a_name_and_a_label(name: str, method: str, label: str) -> None:
    model = model_of(name)
    titles = {"moco": "MoCo v2"}
    assert (model.name, model.method, model.label(titles)) == (name, method, label)
    assert model_of(name, "temperature=0.1").encoder.label(titles).endswith(" (temperature=0.1)")


def test_variants_are_in_the_order_of_their_numbers_although_the_sign_of_an_exponent_is_an_underscore() -> None:
    values = ["0.01", "1e_3", "1e_5", "3e_4", "10", "2e+1"]
    found = names.in_order((model_of("simclr", f"lr={value}") for value in values), ["simclr"])
    assert [model.variant.removeprefix("lr=") for model in found] == ["1e_5", "3e_4", "1e_3", "0.01", "10", "2e+1"]


def test_a_russian_label_keeps_the_swept_values_as_they_are_typed() -> None:
    with language("ru"):
        assert model_of("moco-finetune", "temperature=0.1").label({}) == "moco (temperature=0.1), дообучение"
        assert model_of("random-probe").label({}) == "Случ. иниц., проба"


def test_a_list_whose_parts_have_commas_is_separated_by_semicolons_in_russian() -> None:
    parts = ["SimCLR, проба", "", "BYOL, проба", "SimCLR, проба", "MoCo, проба"]
    assert names.listed(parts) == "SimCLR, проба, BYOL, проба and MoCo, проба"
    with language("ru"):
        assert names.listed(parts) == "SimCLR, проба; BYOL, проба; MoCo, проба"
        assert names.listed(["SimCLR", "BYOL", "MoCo"]) == "SimCLR, BYOL и MoCo"
        assert names.separated(["0,1", "0,2"]) == "0,1; 0,2"
