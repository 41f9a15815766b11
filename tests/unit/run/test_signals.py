import os
import signal

import pytest

from ssl_pkg.run.signals import SIGNALS, InterruptFlag


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> object:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_recorded_and_a_second_has_no_effect(number: signal.Signals) -> None:
    interrupt_flag = InterruptFlag().install()
    assert interrupt_flag.received is None
    os.kill(os.getpid(), number)
    assert interrupt_flag.received == number.name
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt_flag.received == number.name


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_signals_that_nohup_or_a_background_shell_ignores_stay_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    interrupt_flag = InterruptFlag().install()
    os.kill(os.getpid(), number)
    assert interrupt_flag.received is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt_flag.received == "SIGTERM"


def test_sigterm_is_handled_even_if_it_was_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt_flag = InterruptFlag().install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt_flag.received == "SIGTERM"
