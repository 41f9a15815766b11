import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ssl_pkg.rows import DIMENSIONS, ROWS, bounded, dimensions_of, row, unmeasured


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_null_with_a_reason(value: float) -> None:
    assert row("x", "y", value, 3, (value, 1.0), reason="so") == unmeasured("x", "y", 3, "so")
    assert row("x", "y", 1.0, 3, (0.5, value))["high"] is None


def test_rows_are_valid_after_a_round_trip_through_json() -> None:
    rows = [
        row("test", "accuracy", 0.5, 10, (0.2, 0.8), dimensions={"class": "cat"}),
        row("width", "width", 1e30, 10, dimensions={"measure": "keskar", "radius": 1.0, "scope": "head"}),
        row("width", "width", 1.0, 10, dimensions={"measure": "x", "penalty": "common", "eigenvalue": 2}),
        unmeasured("width", "loss", 10, "so"),
        bounded("width", "width", 10, "so", at_least=16),
        bounded("width", "width", 10, "so", at_most=0.1, dimensions={"measure": "x"}),
    ]
    assert ROWS.validate_python(json.loads(json.dumps(rows))) == rows


def test_a_bound_is_no_value() -> None:
    found = bounded("x", "y", 3, "so", at_least=16)
    assert found == {**unmeasured("x", "y", 3, "so"), "at_least": 16.0}
    assert "at_least" not in bounded("x", "y", 3, "so", at_most=1)


@pytest.mark.parametrize(
    "change",
    [
        {"class": 3},
        {"radius": "0.1"},
        {"normalized": 1},
        {"scope": "body"},
        {"n": 1.5},
        {"value": "1"},
        {"kind": "x"},
        {"penalty": "x"},
        {"at_most": "1"},
    ],
)
def test_a_row_with_a_wrong_type_or_an_unknown_key_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ROWS.validate_python([row("x", "y", 1.0, 3) | change])


def test_the_dimensions_of_a_row_are_its_keys_among_the_dimensions() -> None:
    entry = row("width", "width", 1.0, 3, dimensions={"measure": "keskar", "normalized": False})
    assert dimensions_of(entry) == {("measure", "keskar"), ("normalized", False)}
    assert dimensions_of(dict.fromkeys(DIMENSIONS, 1)) == {(name, 1) for name in DIMENSIONS}
    assert dimensions_of(row("x", "y", 1.0, 3)) == frozenset()
