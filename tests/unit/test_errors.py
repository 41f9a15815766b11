import errno
import os

import pytest

from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED, BadInput, exit_status


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (BadInput("there is no folder a:\ngive another"), BAD_INPUT, "there is no folder a: give another"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), BAD_INPUT, "can't write out (Permission denied): no file"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), FAULT, "can't write out (No space left on device): no file"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: no file"),
    ],
)  # fmt: skip
def test_a_failed_command_says_in_one_sentence_why(
    error: BaseException, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert exit_status(command, "out", "no file") == status
    assert capsys.readouterr().err == f"{sentence}\n"


def test_a_fault_of_the_program_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 // 0, "out", "no file")
    assert exit_status(lambda: None, "out", "no file") == COMPLETE
