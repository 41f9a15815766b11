import argparse
import errno
import os
import re
import signal

import pytest

from jobs.__main__ import main as jobs
from ssl_pkg.console import Parser, run_command
from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED, BadInput
from ssl_pkg.run.signals import SIGNALS


def run(command: object, *arguments: str) -> int:
    parser = Parser(prog="ssl-study make")
    parser.add_argument("out")
    parser.add_argument("--test-fraction", type=float)
    return run_command(parser, arguments or ["out"], command, target="out", left="no file")  # type: ignore[arg-type]


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
    def command(options: argparse.Namespace) -> None:
        raise error

    assert run(command) == status
    assert capsys.readouterr().err == f"{sentence}\n"


def test_a_fault_of_the_program_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda options: 1 // 0)
    assert run(lambda options: None) == COMPLETE


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a", "--test-f", "1"], "there is no option --test-f (did you mean --test-fraction?)"),
        (["a", "--test-fractoin", "1"], "there is no option --test-fractoin (did you mean --test-fraction?)"),
        (["a", "--test-fraction", "x"], "argument --test-fraction: invalid float value: 'x'"),
        (["a", "b"], "ssl-study make does not take 'b'"),
        (["--test-fraction", "1"], "the following arguments are required: out"),
    ],
)
def test_a_wrong_command_line_is_reported_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda options: None, *arguments) == BAD_INPUT
    assert capsys.readouterr().err == f"{sentence}: see `ssl-study make --help`\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_the_command_and_a_second_one_does_not_interrupt_its_cleaning_up(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    cleaned = []

    def command(options: argparse.Namespace) -> None:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            for each in SIGNALS:
                os.kill(os.getpid(), each)
            cleaned.append(True)

    assert run(command) == INTERRUPTED
    assert cleaned == [True]
    assert capsys.readouterr().err == "interrupted: no file\n"
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("columns", [5, 50, 60, 80, 200])
@pytest.mark.parametrize("command", ["demo", "study", "submit", "status", "cancel", "logs", "doctor", "profile"])
def test_the_usage_fits_the_terminal(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        jobs([command, "--help"])
    printed = capsys.readouterr().out.split("\n\n")[0]
    assert " ".join(printed.split()).startswith(f"usage: ssl-study {command} ")
    assert "\N{NO-BREAK SPACE}" not in printed
    if columns >= 50:
        assert max(map(len, printed.splitlines())) <= columns
        for option in re.findall(r"\[[^]]*\]", printed):
            assert "\n" not in option
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        jobs([command, "--help"])
    assert printed.split() == capsys.readouterr().out.split("\n\n")[0].split()
