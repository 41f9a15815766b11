from pathlib import Path

from bench.equality import lines
from ssl_pkg.catalogue import STAGES

CONF = Path(__file__).parents[3] / "ssl_pkg" / "conf"


def test_every_stage_and_every_method_is_compared() -> None:
    given = [override for line in lines().values() for override in line]
    assert {f"stage={name}" for name in STAGES} <= set(given)
    assert {f"method={file.stem}" for file in (CONF / "method").glob("*.yaml")} <= set(given)


def test_a_source_is_an_earlier_run_or_random() -> None:
    earlier = {"random"}
    for name, line in lines().items():
        assert all(word[7:] in earlier for word in line if word.startswith("source=")), name
        earlier.add(name)
