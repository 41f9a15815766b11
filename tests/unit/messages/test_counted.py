import pytest

from ssl_pkg.messages.counted import counted


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("file",), "0 files"),
        (1, ("file",), "1 file"),
        (1200, ("file",), "1,200 files"),
        (1, ("run was", "runs were"), "1 run was"),
        (2, ("run was", "runs were"), "2 runs were"),
    ],
)
def test_a_noun_is_plural_unless_there_is_one(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text
