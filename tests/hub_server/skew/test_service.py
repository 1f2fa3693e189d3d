"""Offsets by agent, and what is said of them."""

from __future__ import annotations

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.clock import milliseconds
from hub_server.events import ClockOffsetMeasured
from hub_server.skew.service import SkewService
from tests.clocks import FakeClock


@pytest.fixture
def skew(bus: InProcessBus, clock: FakeClock) -> SkewService:
    return SkewService(bus=bus, clock=clock)


def beat(skew: SkewService, clock: FakeClock, ahead_ms: int) -> None:
    clock.advance(30)
    skew.measured("o1", "a1", milliseconds(clock.now()) + ahead_ms, int(clock.monotonic() * 1000) - 400)


async def test_a_clock_is_said_to_be_wrong_once_and_right_once(
    skew: SkewService, clock: FakeClock, bus: InProcessBus
) -> None:
    with bus.subscribe(frozenset({"clocks"}), name="t", capacity=99, overflow=Overflow.DROP_OLDEST) as events:
        for ahead_ms in (10, 20, 75_000, 75_001, 40_000, 20_000, 10):
            beat(skew, clock, ahead_ms)
        said = [event for event in await events.batch(99) if isinstance(event, ClockOffsetMeasured)]
    assert [(event.skewed, event.offset_ms) for event in said] == [(False, 10), (True, 75_000), (False, 20_000)]
    assert list(skew.judged()) == [said[-1]]


def test_an_offset_is_known_once_it_was_measured_and_until_the_agent_is_gone(
    skew: SkewService, clock: FakeClock
) -> None:
    assert (skew.offset_ms("a1"), skew.correction_ms("a1")) == (None, 0)
    beat(skew, clock, 1_500)
    assert (skew.offset_ms("a1"), skew.correction_ms("a1")) == (1_500, 0)
    beat(skew, clock, 3_600_000)
    assert (skew.offset_ms("a1"), skew.correction_ms("a1")) == (3_600_000, 3_600_000)
    beat(skew, clock, 0)
    assert (skew.offset_ms("a1"), skew.correction_ms("a1")) == (0, 0)
    skew.forget("a1")
    assert (skew.offset_ms("a1"), list(skew.judged())) == (None, [])
