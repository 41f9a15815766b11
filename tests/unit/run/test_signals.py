import os
import signal

import pytest

from ssl_pkg.run.signals import SIGNALS, Interrupts


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> object:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_remembered_and_a_second_changes_nothing(number: signal.Signals) -> None:
    interrupts = Interrupts().install()
    assert interrupts.received is None
    os.kill(os.getpid(), number)
    assert interrupts.received == number.name
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.received == number.name


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_nohup_or_a_shell_in_the_background_ignores_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    interrupts = Interrupts().install()
    os.kill(os.getpid(), number)
    assert interrupts.received is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.received == "SIGTERM"


def test_a_request_to_end_is_heeded_also_where_it_was_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupts = Interrupts().install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.received == "SIGTERM"
