import os
import signal

import pytest

from ssl_pkg.training.interrupts import SIGNALS, Interrupts


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> object:
    before = {number: signal.getsignal(number) for number in SIGNALS}
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
