import copy
import json
from typing import Any

import pytest
import torch
from small_networks import convolutional, draw, labels, with_statistics
from torch import nn
from torchvision.models import resnet18

from ssl_pkg.catalogue import Width
from ssl_pkg.compose import load_config
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.width.measures import Unit, UnitResult, collect, width_units
from ssl_pkg.rows import Row, Scope

IMAGES, LABELS = draw(12, 3, 9, 9), labels(12, 4)
START = ["stage=width", "source=x", "run_dir=x", "data.root=synthetic"]
SCOPES: tuple[Scope, ...] = ("network", "head")
MEASURES = [
    ("adaptive_worst", 0.002, False),
    ("adaptive_worst", 0.002, True),
    ("adaptive_average", 0.1, False),
    ("adaptive_average", 0.1, True),
    ("pac_bayes_sigma", None, False),
    ("keskar", None, False),
    ("hessian_top", None, False),
    ("hessian_trace", None, False),
]


def measures(rows: list[Row]) -> list[tuple[str, float | None, bool]]:
    """Measure, radius and normalisation of each row."""
    return [(row["measure"], row.get("radius"), row["normalized"]) for row in rows]


def value(rows: list[Row], **wanted: Any) -> float:
    """The value of the only row with these entries."""
    (found,) = (row["value"] for row in rows if wanted.items() <= row.items())
    assert found is not None
    return found


@pytest.fixture(scope="module")
def config() -> Width:
    return load_config([*START, "budget=tiny", "width.batch_size=5"]).width


def units(model: nn.Module, config: Width, *, scope: Scope = "network") -> list[Unit]:
    return width_units(model, IMAGES, LABELS, config, scope=scope, seed=0, tick=lambda: None)


@pytest.fixture(scope="module")
def whole(config: Width) -> dict[str, UnitResult]:
    return {unit.name: unit.measure() for unit in units(convolutional(), config)}


def test_every_metric_has_a_row_and_the_landscape_its_arrays(whole: dict[str, UnitResult], config: Width) -> None:
    rows, arrays = collect(json.loads(json.dumps(list(whole.values()), allow_nan=False)))
    assert [row["metric"] for row in rows] == ["loss", "accuracy", *["width"] * len(MEASURES)]
    assert measures(rows[2:]) == MEASURES
    assert {row["scope"] for row in rows[2:]} == {"network"}
    assert all(row["evaluation"] == "width" and row["n"] == 12 for row in rows)
    for row in rows[2:]:
        if row["measure"] in ("adaptive_average", "hessian_trace"):
            assert row["low"] < row["value"] < row["high"]
    line, plane = config.line_points, config.plane_points
    shapes = {"alphas": (line,), "loss": (line,), "accuracy": (line,), "grid": (plane,), "plane": (plane, plane)}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    assert arrays["loss"][line // 2] == arrays["plane"][plane // 2, plane // 2] == rows[0]["value"]


def test_interrupted_units_give_the_same_result_when_repeated(whole: dict[str, UnitResult], config: Width) -> None:
    """Each unit is stopped once within its work, then all are measured in another order by a second process."""
    stopped = 0
    ticks = 0

    def stop_each_fifth_batch() -> None:
        nonlocal ticks
        ticks += 1
        if ticks % 5 == 0:
            raise InterruptedError

    for unit in width_units(
        convolutional(), IMAGES, LABELS, config, scope="network", seed=0, tick=stop_each_fifth_batch
    ):
        try:
            unit.measure()
        except InterruptedError:
            stopped += 1
    assert stopped > 5
    again = {unit.name: unit.measure() for unit in reversed(units(convolutional(), config))}
    assert again == whole


def test_the_measures_of_the_head_are_those_of_softmax_regression_on_the_features(config: Width) -> None:
    model = convolutional()
    rows, arrays = collect(unit.measure() for unit in units(model, config, scope="head"))
    assert measures(rows) == MEASURES
    assert {(row["metric"], row["scope"]) for row in rows} == {("width", "head")}
    assert not arrays
    many = config.model_copy(update={"hutchinson_draws": 200, "lanczos_steps": 30})
    estimates = {}
    for unit in units(model, many, scope="head")[-2:]:
        (row,) = unit.measure()["rows"]
        estimates[row["measure"]] = row
    head = model.get_submodule("fc")
    with torch.no_grad():
        features = model[:-1](IMAGES)
        share = head(features).softmax(1).double()
    inputs = torch.cat([features, torch.ones(12, 1)], 1).double()
    spread = torch.diag_embed(share) - torch.einsum("ni,nj->nij", share, share)
    hessian = torch.einsum("nij,nf,ng->ifjg", spread, inputs, inputs).reshape(4 * 9, 4 * 9) / 12
    trace = estimates["hessian_trace"]
    assert abs(trace["value"] - hessian.trace()) < 2 * (trace["value"] - trace["low"])
    top = torch.linalg.eigvalsh(hessian)[-1].item()
    assert estimates["hessian_top"]["value"] == pytest.approx(top, rel=1e-4)


def test_a_resnet18_is_measured_and_not_changed(config: Width) -> None:
    torch.manual_seed(0)
    model = with_statistics(resnet18(num_classes=4))
    before = copy.deepcopy(model.state_dict())
    images = draw(4, 3, 32, 32)
    parts = [width_units(model, images, LABELS[:4], config, scope=scope, seed=0, tick=lambda: None) for scope in SCOPES]
    rows, _ = collect(unit.measure() for part in parts for unit in part if not unit.name.startswith(("pac", "plane")))
    for wanted in ({"measure": "adaptive_worst", "normalized": False}, {"measure": "hessian_trace"}):
        assert value(rows, scope="network", **wanted) > value(rows, scope="head", **wanted) > 0
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # bit for bit
    assert model.training


@pytest.mark.parametrize("field", ["line_points", "plane_points"])
def test_a_landscape_without_a_point_at_the_model_is_refused(field: str) -> None:
    with pytest.raises(BadInput, match="must be odd"):
        load_config([*START, f"width.{field}=4"])


@pytest.mark.parametrize("budget", ["tiny", "demo", "quick", "full"])
def test_every_budget_is_valid(budget: str) -> None:
    assert load_config([*START, f"budget={budget}"]).width.images > 0
