import pytest

from analysis import names


@pytest.mark.parametrize(
    ("name", "parts", "label"),
    [
        ("adaptive_worst_0.03", ("adaptive_worst", "0.03", ()), "Adaptive worst-case sharpness, radius 0.03"),
        (
            "keskar_head_normalized",
            ("keskar", "", ("head", "normalized")),
            "Keskar sharpness, head only, normalised logits",
        ),
        ("train_loss", ("train_loss", "", ()), "Loss on the subset"),
        ("novel_2_normalized", ("novel_2", "", ("normalized",)), "novel_2, normalised logits"),
        ("head", ("head", "", ()), "head"),
    ],
)
def test_measures_are_taken_apart(name: str, parts: tuple[str, str, tuple[str, ...]], label: str) -> None:
    assert names.split_measure(name) == parts
    assert names.measure_label(name) == label


def test_measures_are_ordered_by_what_was_perturbed_family_and_radius() -> None:
    given = ["keskar_head", "novel", "adaptive_worst_0.1", "keskar", "adaptive_worst_0.03", "keskar_normalized"]
    assert names.measures_in_order(given) == [
        "adaptive_worst_0.03",
        "adaptive_worst_0.1",
        "keskar",
        "novel",
        "keskar_normalized",
        "keskar_head",
    ]


@pytest.mark.parametrize(
    ("model", "method", "label"),
    [
        ("moco-finetune", "moco", "MoCo v2 fine-tuned"),
        ("supervised", "supervised", "Supervised"),
        ("barlow-twins-probe", "barlow-twins", "barlow-twins probe"),
        ("random-probe", "random", "Random init. probe"),
    ],
)
def test_models_have_a_method_and_a_label(model: str, method: str, label: str) -> None:
    assert names.method_of(model) == method
    assert names.model_label(model, {"moco": "MoCo v2", "supervised": "Supervised"}) == label
