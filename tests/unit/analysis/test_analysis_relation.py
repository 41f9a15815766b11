"""What the report says of the relation between the width of an optimum and accuracy."""

from dataclasses import replace

from analysis import relation
from analysis.correlation import Correlation
from analysis.measures import Measurement

KESKAR = Measurement("width", frozenset({("measure", "keskar")}))
SIGMA = Measurement("width", frozenset({("measure", "pac_bayes_sigma")}))


def test_a_relation_is_called_by_what_it_says_of_a_wide_optimum_and_needs_enough_models() -> None:
    """Keskar's sharpness is small where the optimum is wide."""
    found = Correlation(KESKAR, "test", "all", -0.9, -0.99, -0.5, 0.0004, 8, corrected=0.0012, least_corrected=0.0001)
    text = relation._verdict(found)
    assert text.endswith("models with a wider optimum have a higher test accuracy")
    assert "p < .001, corrected p = .001" in text
    assert relation._verdict(replace(found, rho=0.9)).endswith("models with a wider optimum have a lower test accuracy")
    gap = replace(found, target="gap")
    assert relation._verdict(gap).endswith("models with a wider optimum have a higher generalisation gap")
    sigma = replace(found, measure=SIGMA)  # large where the optimum is wide
    assert relation._verdict(sigma).endswith("models with a wider optimum have a lower test accuracy")
    assert relation._verdict(replace(sigma, rho=0.9)).endswith(
        "models with a wider optimum have a higher test accuracy"
    )
    assert relation._verdict(replace(found, corrected=0.2)).endswith(": no relation is shown")
    assert "so few models can't show" in relation._verdict(replace(found, corrected=0.2, least_corrected=0.05))
