import io

import pytest

from ssl_pkg.messages.wrapping import wrapped

SENTENCE = "few images for finetune: an epoch passes 50 times over the 96 images of train, because of min_epoch_steps"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_line_breaks_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = wrapped(SENTENCE, Terminal()).splitlines()
    assert len(lines) > 1 and max(map(len, lines)) <= 40
    assert " ".join(lines) == SENTENCE


def test_a_file_gets_the_sentence_in_one_line() -> None:
    assert wrapped(SENTENCE, io.StringIO()) == SENTENCE
