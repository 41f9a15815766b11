import copy
import itertools
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_networks import convolutional, draw, labels, with_statistics
from torch import Tensor, nn
from torchvision.models import resnet18

from ssl_pkg.config.compose import load_config
from ssl_pkg.config.presets import budgets
from ssl_pkg.config.stage_settings import Width
from ssl_pkg.errors import BadInput
from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.hessian import top_eigenvalues, trace
from ssl_pkg.evaluation.width.measures import Unit, UnitResult, collect, head_inputs, head_units, network_units
from ssl_pkg.evaluation.width.noise import Interval
from ssl_pkg.evaluation.width.perturb import Objective
from ssl_pkg.evaluation.width.sharpness import adaptive_average, adaptive_worst, keskar, pac_bayes_width
from ssl_pkg.rows import Penalty, Row

IMAGES, LABELS = draw(12, 3, 9, 9), labels(12, 4)
START = ["stage=width", "source=x", "run_dir=x", "data.root=synthetic"]
MEASURES = [
    ("adaptive_worst", 0.0005, True),
    ("adaptive_worst", 0.0005, True),  # the first-order prediction
    ("adaptive_worst", 0.0005, False),
    ("adaptive_worst", 0.0005, False),
    ("adaptive_average", 0.1, False),
    ("adaptive_average", 0.1, True),
    ("pac_bayes_sigma", None, False),
    ("keskar", None, False),
    *[("hessian_eigenvalue", None, False)] * 3,
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


def silent() -> None:
    """A tick that does nothing."""


def units(model: nn.Module, config: Width, images: Tensor = IMAGES) -> list[Unit]:
    return network_units(model, images, LABELS[: len(images)], config, seed=0, tick=silent)


def of_head(model: nn.Module, config: Width, images: Tensor = IMAGES, penalty: Penalty = "chosen") -> list[Unit]:
    inputs = head_inputs(model, images, 5)
    target = LABELS[: len(images)]
    return head_units(lambda: (model.get_submodule("fc"), inputs), target, config, penalty=penalty, seed=0, tick=silent)


@pytest.fixture(scope="module")
def whole(config: Width) -> dict[str, UnitResult]:
    return {unit.name: unit.measure() for unit in units(convolutional(), config)}


def test_every_metric_has_a_row_and_the_landscape_its_arrays(whole: dict[str, UnitResult], config: Width) -> None:
    rows, arrays = collect(json.loads(json.dumps(list(whole.values()), allow_nan=False)))
    worst = ["width", "first_order"] * 2
    assert [row["metric"] for row in rows] == ["loss", "accuracy", *worst, *["width"] * (len(MEASURES) - 4)]
    assert [row["eigenvalue"] for row in rows if "eigenvalue" in row] == [1, 2, 3]
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

    for unit in network_units(convolutional(), IMAGES, LABELS, config, seed=0, tick=stop_each_fifth_batch):
        try:
            unit.measure()
        except InterruptedError:
            stopped += 1
    assert stopped > 5
    again = {unit.name: unit.measure() for unit in reversed(units(convolutional(), config))}
    assert again == whole


@pytest.mark.slow
def test_the_measures_of_the_head_are_those_of_softmax_regression_on_the_features(config: Width) -> None:
    model = convolutional()
    rows, arrays = collect(unit.measure() for unit in of_head(model, config))
    assert measures(rows) == MEASURES
    assert {(row["scope"], row["penalty"]) for row in rows} == {("head", "chosen")}
    assert not arrays
    many = config.model_copy(update={"hutchinson_draws": 200, "lanczos_steps": 30})
    estimates = {}
    for unit in of_head(model, many)[-2:]:
        row = unit.measure()["rows"][0]
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
    assert estimates["hessian_eigenvalue"]["value"] == pytest.approx(top, rel=1e-4)


def test_a_refitted_head_has_its_own_loss_and_is_fitted_only_when_it_is_measured(config: Width) -> None:
    model, other = convolutional(), nn.Linear(8, 4)
    calls = []

    def head() -> tuple[nn.Module, Tensor]:
        calls.append(1)
        return other, head_inputs(model, IMAGES, 5)

    found = head_units(head, LABELS, config, penalty="common", seed=0, tick=silent)
    assert not calls
    rows, _ = collect(unit.measure() for unit in found)
    assert len(calls) == 1
    assert {row["penalty"] for row in rows} == {"common"}
    logits = other(head_inputs(model, IMAGES, 12))
    assert value(rows, metric="loss") == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-5)
    assert value(rows, metric="accuracy") == pytest.approx((logits.argmax(1) == LABELS).float().mean().item())
    assert {unit.name for unit in found}.isdisjoint(unit.name for unit in of_head(model, config))


@pytest.mark.slow
def test_each_row_has_the_value_of_its_measure_at_its_radius_and_of_its_logits(config: Width) -> None:
    radii = {"worst_rho": (0.001, 0.03), "average_rho": (0.1, 0.3)}
    numbers = {"ascent_images": 5, "ascent_steps": 2, "noise_draws": 3, "hutchinson_draws": 3, "pac_bayes_steps": 9}
    own = config.model_copy(update=radii | numbers)
    model = convolutional()
    model.get_submodule("fc").bias.data -= model(IMAGES).mean(0)  # otherwise it predicts one class
    target = model(IMAGES).argmax(1)
    found = Objective(fold_batch_norm(model), IMAGES, target, 5, silent)
    expected: dict[tuple[str, str, float | None, bool], Interval] = {}
    for flag, rho in itertools.product((False, True), own.worst_rho):
        both = adaptive_worst(found, rho, 2, 5, 3, normalized=flag)
        for metric, value_of in zip(("width", "first_order"), both, strict=True):
            expected[metric, "adaptive_worst", rho, flag] = value_of
    for rho in own.average_rho:
        for flag, value_of in zip((False, True), adaptive_average(found, rho, 3, 3), strict=True):
            expected["width", "adaptive_average", rho, flag] = value_of
    sigma = pac_bayes_width(found, own.pac_bayes_drop, 9, 3, 3)
    assert isinstance(sigma, Interval)
    expected["width", "pac_bayes_sigma", None, False] = sigma
    expected["width", "keskar", None, False] = keskar(found, own.keskar_epsilon, 2)
    expected["width", "hessian_trace", None, False] = trace(found, 3, 3)
    tops = top_eigenvalues(found, own.lanczos_steps, 3)
    rows, _ = collect(
        unit.measure()
        for unit in network_units(model, IMAGES, target, own, seed=3, tick=silent)
        if not unit.name.startswith(("line", "plane", "loss"))
    )
    kinds = {(row["metric"], row["measure"], row.get("radius"), row["normalized"]): row for row in rows}
    assert [row["value"] for row in rows if "eigenvalue" in row] == [top.value for top in tops]
    assert kinds.keys() - expected.keys() == {("width", "hessian_eigenvalue", None, False)}
    for key, interval in expected.items():
        assert (kinds[key]["value"], kinds[key]["low"], kinds[key]["high"]) == interval[:3], key
    assert len({interval.value for interval in expected.values()}) == len(expected)


def test_a_radius_at_which_the_loss_is_not_finite_has_rows_with_a_reason(config: Width) -> None:
    far = config.model_copy(update={"average_rho": (50.0, 1e30)})
    rows, _ = collect(unit.measure() for unit in units(convolutional(), far) if "average" in unit.name)
    json.dumps(rows, allow_nan=False)
    assert value(rows, radius=50.0, normalized=False) > 10
    lost = [row for row in rows if row["radius"] == 1e30]
    assert [row["value"] for row in lost] == [None, None]
    assert all("is not finite" in row["reason"] for row in lost)


@pytest.mark.slow
def test_a_resnet18_is_measured_and_not_changed(config: Width) -> None:
    torch.manual_seed(0)
    model = with_statistics(resnet18(num_classes=4))
    before = copy.deepcopy(model.state_dict())
    images = draw(4, 3, 32, 32)
    parts = [units(model, config, images), of_head(model, config, images)]
    rows, _ = collect(unit.measure() for part in parts for unit in part if not unit.name.startswith(("pac", "plane")))
    for wanted in ({"measure": "adaptive_worst", "normalized": False}, {"measure": "hessian_trace"}):
        wanted["metric"] = "width"
        assert value(rows, scope="network", **wanted) > value(rows, scope="head", **wanted) > 0
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # bit for bit
    assert model.training


@pytest.mark.parametrize("field", ["line_points", "plane_points"])
def test_a_landscape_without_a_point_at_the_model_is_refused(field: str) -> None:
    with pytest.raises(BadInput, match="must be odd"):
        load_config([*START, f"width.{field}=4"])


@pytest.mark.parametrize("budget", budgets())
def test_every_budget_is_valid(budget: str) -> None:
    assert load_config([*START, f"budget={budget}"]).width.images > 0
