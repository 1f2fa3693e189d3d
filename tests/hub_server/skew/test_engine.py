"""The offset of a clock, whatever the way of the frames and whoever sets a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub_server.skew.engine import correction_ms, estimated, is_skewed
from hub_server.skew.model import JUMP_MS, WINDOW, Estimate, Reading

HUB_MS = 1_763_800_000_000
HEARTBEAT_MS = 30_000


def reading(
    at_ms: int, *, ahead_ms: int = 0, late_ms: int = 0, hub_ahead_ms: int = 0, booted_ms: int = 500_000
) -> Reading:
    """A frame sent `at_ms` after the start and read `late_ms` later."""
    return Reading(
        agent_ms=HUB_MS + at_ms + ahead_ms,
        agent_monotonic_ms=at_ms + booted_ms,
        hub_ms=HUB_MS + at_ms + late_ms + hub_ahead_ms,
        hub_monotonic_ms=at_ms + late_ms + 77,
    )


def after(*readings: Reading) -> Estimate:
    estimate = None
    for each in readings:
        estimate = estimated(estimate, each)
    assert estimate is not None
    return estimate


@given(
    ahead_ms=st.integers(-(10**9), 10**9),
    late=st.lists(st.integers(0, 60_000), min_size=2, max_size=30),
    best=st.integers(0, 29),
)
def test_the_offset_is_wrong_by_no_more_than_the_best_frame_was_late(ahead_ms: int, late: list[int], best: int) -> None:
    late[best % len(late)] = 3
    estimate = after(*(reading(n * HEARTBEAT_MS, ahead_ms=ahead_ms, late_ms=ms) for n, ms in enumerate(late)))
    assert len(estimate.measurements) <= WINDOW
    assert estimate.offset_ms == ahead_ms - min(late[-WINDOW:])


def test_a_frame_that_waited_while_the_hub_was_frozen_changes_nothing() -> None:
    steady = [reading(n * HEARTBEAT_MS, ahead_ms=40) for n in range(4)]
    frozen = [reading(n * HEARTBEAT_MS, ahead_ms=40, late_ms=60_000) for n in (4, 5)]
    assert after(*steady, *frozen).offset_ms == 40


def test_a_clock_that_is_set_is_believed_at_once_on_either_side() -> None:
    steady = [reading(n * HEARTBEAT_MS) for n in range(WINDOW)]
    agents = reading(WINDOW * HEARTBEAT_MS, ahead_ms=3_600_000, late_ms=400)
    assert after(*steady, agents).offset_ms == 3_600_000 - 400
    hubs = reading(WINDOW * HEARTBEAT_MS, hub_ahead_ms=JUMP_MS + 1, late_ms=0)
    assert after(*steady, hubs).offset_ms == -JUMP_MS - 1


def test_a_machine_that_was_booted_is_measured_anew() -> None:
    before = [reading(n * HEARTBEAT_MS, ahead_ms=90_000) for n in range(3)]
    estimate = after(*before, reading(400_000, ahead_ms=5, booted_ms=-399_000))
    assert (estimate.offset_ms, len(estimate.measurements)) == (5, 1)


def test_times_are_corrected_by_two_seconds_or_more() -> None:
    def corrected(ahead_ms: int) -> int:
        return correction_ms(after(reading(0, ahead_ms=ahead_ms), reading(HEARTBEAT_MS, ahead_ms=ahead_ms)))

    assert [corrected(ms) for ms in (0, 1_999, -1_999, 2_000, -2_000)] == [0, 0, 0, 2_000, -2_000]


def test_one_frame_alone_does_not_make_a_clock_a_little_behind() -> None:
    assert correction_ms(after(reading(0, late_ms=9_000))) == 0
    assert correction_ms(after(reading(0, ahead_ms=9_000))) == 9_000
    assert correction_ms(after(reading(0, ahead_ms=-3_600_000))) == -3_600_000
    assert correction_ms(after(reading(0, late_ms=9_000), reading(HEARTBEAT_MS, late_ms=8_500))) == -8_500


def test_a_skewed_clock_does_not_flap() -> None:
    assert [is_skewed(ms, was_skewed=False) for ms in (60_000, 60_001, -60_001)] == [False, True, True]
    assert [is_skewed(ms, was_skewed=True) for ms in (30_000, 29_999, -29_999)] == [True, False, False]
