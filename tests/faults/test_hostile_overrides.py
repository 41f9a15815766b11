"""An override is refused in one sentence, or it changes its own field only."""

from functools import cache
from typing import Any

import pytest
from hostile import cases
from hypothesis import given
from hypothesis import strategies as st

from ssl_pkg.config.compose import load_config
from ssl_pkg.config.overrides import LITERAL
from ssl_pkg.errors import BadInput

LINE = ("stage=pretrain", "run_dir=x", "method=moco")


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """The configuration by dotted keys; lists are values."""
    if not isinstance(content, dict):
        return {prefix: content}
    return {k: v for name, value in content.items() for k, v in flat(value, f"{prefix}.{name}".lstrip(".")).items()}


def load(*overrides: str) -> dict[str, Any]:
    return flat(load_config([*LINE, *overrides]).model_dump(mode="json"))


@cache
def usual() -> dict[str, Any]:
    return load()


SCALARS = st.one_of(
    st.integers(-2, 200),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8),
)


def spelt(value: object) -> str:
    return {None: "null", True: "true", False: "false"}[value] if isinstance(value, bool | None) else str(value)


@cases(long=300, short=25)
@given(chance=st.data())
def test_a_value_is_refused_or_arrives_where_it_belongs_and_nowhere_else(chance: st.DataObject) -> None:
    key, value = chance.draw(st.sampled_from(sorted(usual()))), chance.draw(SCALARS)
    try:
        changed = load(f"{key}={spelt(value)}")
    except BadInput as error:
        assert "\n" not in str(error)
        assert key.rpartition(".")[2] in str(error) or str(value) in str(error)
        return
    if key in LITERAL:
        value = spelt(value)  # digits and null are names
    assert changed[key] == value
    assert type(changed[key]) is type(value) or isinstance(usual()[key], float)
    for other in usual().keys() | changed.keys():
        refers = key.startswith(("budget.", "study.")) and changed.get(other) == value
        assert refers or other == key or changed[other] == usual()[other]


WORDS = st.sampled_from([
    "seed", "method", "budget", "study", "data", "data.root", "run_dir", "source", "stage", "hydra", "hydra.run.dir",
    "method.model", "method.views", "method.optimizer", "method.views.0", "checkpoint", "+method", "++seed", "~seed",
    "~method", "+x.y", "method@y", "seed:", "budget/x",
])  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=12),
    st.text("[]{}(),:='\"$ \\~+@/.\n", max_size=10),
    st.sampled_from([
        "${seed}", "${method}", "${.}", "${..}", "${oc.env:NOWHERE}", "${oc.decode:'['}", "${hydra:run.dir}", "${x:y}",
        "${budget.${seed}}", "1,2", "range(1,9)", "choice(a,b)", "shuffle(a,b)", "glob(*)", "sort(1,2)", "int(x)",
        "[1,2]", "{a:1}", "{}", "[]", "???", "byol", "[simclr,byol]", "null", "nan", "inf", "-inf", "1e999", "0x10",
        "1_0", "1.0", "true",
    ]),
    st.integers(1, 3000).map(lambda depth: "[" * depth + "]" * depth),
    st.integers(1, 3000).map(lambda depth: "{a:" * depth + "1" + "}" * depth),
    st.integers(4000, 5000).map(lambda digits: "9" * digits),
)  # fmt: skip


@cases(long=400, short=40)
@given(overrides=st.lists(st.tuples(WORDS, VALUES).map("=".join) | WORDS | VALUES, min_size=1, max_size=3))
def test_any_line_is_a_configuration_or_one_sentence(overrides: list[str]) -> None:
    try:
        load_config([*LINE, *overrides])
    except BadInput as error:
        assert str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("depth", [100, 300, 3000])
def test_depth_is_no_traceback(depth: int) -> None:
    with pytest.raises(BadInput):
        load_config([*LINE, "seed=" + "[" * depth + "]" * depth])
