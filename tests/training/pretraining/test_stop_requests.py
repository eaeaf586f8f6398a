"""Which signals ask a run to save and end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sono.training.pretraining.stop_requests import stop_requests


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal whose handler is put back afterwards."""
    before = signal.getsignal(request.param)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_is_a_request_and_its_handler_is_put_back(number: signal.Signals) -> None:
    def handler(*_: object) -> None:
        pytest.fail("called within the block")

    signal.signal(number, handler)
    with stop_requests(insist=False) as requests:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert requests == [number.name, number.name]
    assert signal.getsignal(number) is handler


def test_one_who_insists_gets_what_the_signal_did_before(number: signal.Signals) -> None:
    called: list[int] = []
    signal.signal(number, lambda received, _: called.append(received))
    with stop_requests(insist=True) as requests:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
    assert (requests, called) == ([number.name], [number])


def test_a_signal_that_the_process_ignores_asks_for_nothing(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with stop_requests(insist=True) as requests:
        os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    assert requests == []
