"""Time as the hub lived it: what counts, what is left out, and what is told of a long pause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.pauses import NO_PAUSE, TICK_SECONDS, TOLERATED_SECONDS, PauseMeter
from tests.clocks import FakeClock


def a_meter(clock: FakeClock) -> PauseMeter:
    return PauseMeter(clock, lambda _lateness: None)


def lived(clock: FakeClock, meter: PauseMeter, ticks: int, late: float = 0.0) -> None:
    for _ in range(ticks):
        clock.advance(TICK_SECONDS + late)
        meter.tick()


def test_a_freeze_of_a_minute_is_left_out_exactly() -> None:
    clock = FakeClock()
    meter = a_meter(clock)
    lived(clock, meter, 10)
    clock.advance(TICK_SECONDS + 60)
    assert meter.active_seconds() == pytest.approx(11 * TICK_SECONDS)  # also before the first tick after it
    lived(clock, meter, 10)
    assert meter.active_seconds() == pytest.approx(21 * TICK_SECONDS)
    pause = meter.long_pause()
    assert pause.ended_at == pytest.approx(11 * TICK_SECONDS)
    assert pause.seconds == pytest.approx(60)


def test_a_jump_of_the_wall_clock_is_no_pause() -> None:
    clock = FakeClock()
    meter = a_meter(clock)
    for seconds in (86_400, -7200):
        clock.jump(seconds)
        lived(clock, meter, 10)
    assert meter.active_seconds() == pytest.approx(20 * TICK_SECONDS)
    assert meter.long_pause() == NO_PAUSE


def test_a_loop_that_is_a_little_late_is_alive() -> None:
    clock = FakeClock()
    meter = a_meter(clock)
    lived(clock, meter, 100, late=TOLERATED_SECONDS / 2)
    assert meter.active_seconds() == pytest.approx(100 * (TICK_SECONDS + TOLERATED_SECONDS / 2))
    assert meter.long_pause() == NO_PAUSE


def test_short_pauses_one_after_the_other_are_a_long_one() -> None:
    clock = FakeClock()
    meter = a_meter(clock)
    lived(clock, meter, 2, late=2.0)
    assert meter.long_pause() == NO_PAUSE
    lived(clock, meter, 1, late=2.0)
    assert meter.long_pause().seconds == pytest.approx(6)


def test_short_pauses_far_apart_are_none() -> None:
    clock = FakeClock()
    meter = a_meter(clock)
    for _ in range(5):
        lived(clock, meter, 1, late=2.0)
        lived(clock, meter, 200)
    assert meter.long_pause() == NO_PAUSE


@given(st.lists(st.tuples(st.floats(0, 200), st.booleans()), max_size=60))
def test_activity_never_goes_back_and_is_never_more_than_time(steps: list[tuple[float, bool]]) -> None:
    clock = FakeClock()
    meter = a_meter(clock)
    told = [0.0]
    for seconds, ticks in steps:
        clock.advance(seconds)
        if ticks:
            meter.tick()
        told.append(meter.active_seconds())
    assert told == sorted(told)
    assert told[-1] <= sum(seconds for seconds, _ in steps) + 1e-6
