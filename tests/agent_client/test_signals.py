"""What a process is told by signals is heard by its loop, also what it is told before there is one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from agent_client.signals import Signals, heard

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
NUMBERS = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    with heard(NUMBERS) as signals:
        yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_that_comes_before_the_loop_is_answered_by_it(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    asyncio.run(answered(signals))


def test_a_signal_that_comes_while_the_loop_waits_wakes_it(signals: Signals) -> None:
    asyncio.run(answered(signals, send=True))


def test_what_came_is_known_whether_a_loop_has_heard_it_or_not(signals: Signals) -> None:
    asyncio.run(answered(signals, send=True))
    assert not signals.came([signal.SIGUSR2])
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signals.came([signal.SIGUSR1])
    assert signals.came([signal.SIGUSR2])


def test_what_was_asked_for_before_the_loop_came_to_it_is_no_error(signals: Signals) -> None:
    asyncio.run(asked_first(signals))


async def asked_first(signals: Signals) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    signals.answer({})
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0)
    assert signals.came([signal.SIGUSR1])
    await asyncio.sleep(0)
    assert not errors


async def answered(signals: Signals, *, send: bool = False) -> None:
    told, other = asyncio.Event(), asyncio.Event()
    signals.answer({signal.SIGUSR1: other.set})
    signals.answer({signal.SIGUSR1: told.set, signal.SIGUSR2: other.set})
    if send:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
    async with asyncio.timeout(10):
        await told.wait()
    assert not other.is_set()
