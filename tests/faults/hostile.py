"""Hypothesis strategies and settings for tests of hostile input."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from trainers import LONG


def cases(long: int, short: int) -> settings:
    """Settings with this number of cases, which are the same in every run."""
    return settings(
        max_examples=long if LONG else short,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with damage, often near one of its two ends."""
    edges = min(len(content), 200)
    place = draw(st.one_of(st.integers(0, edges), st.integers(len(content) - edges, len(content)),
                           st.integers(0, len(content))))  # fmt: skip
    before, after = content[:place], content[place:]
    few = st.binary(min_size=1, max_size=8)
    kind = draw(st.sampled_from(("cut", "headless", "overwritten", "inserted", "missing", "twice", "noise")))
    if kind == "overwritten":
        new = draw(few)
        return before + new + after[len(new) :]
    return {
        "cut": lambda: before,
        "headless": lambda: after,
        "inserted": lambda: before + draw(few) + after,
        "missing": lambda: before + after[draw(st.integers(1, 8)) :],
        "twice": lambda: content + content,
        "noise": lambda: draw(st.binary(max_size=300)),
    }[kind]()


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
