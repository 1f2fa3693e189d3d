"""Credits, and bounded ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub_server.telemetry.engine import (
    BACKFILL_CREDITS,
    COMMIT_SECONDS_MAX,
    WAITING_SAMPLES_MAX,
    credits_of,
)
from hub_server.telemetry.model import RANGES_KEPT, Load, bounded
from protocol.enumerations import Lane
from protocol.limits import STREAM_CREDITS
from protocol.ranges import SequenceRanges

loads = st.builds(Load, st.integers(0, 2 * WAITING_SAMPLES_MAX), st.floats(0, 3 * COMMIT_SECONDS_MAX))


@given(load=loads, more_samples=st.integers(0, WAITING_SAMPLES_MAX), more_seconds=st.floats(0, COMMIT_SECONDS_MAX))
def test_more_load_never_gives_more_credits_and_live_samples_always_get_one(
    load: Load, more_samples: int, more_seconds: float
) -> None:
    heavier = Load(load.waiting_samples + more_samples, load.commit_seconds + more_seconds)
    for lane in Lane:
        assert credits_of(lane, heavier) <= credits_of(lane, load)
    assert 1 <= credits_of(Lane.LIVE, load) <= STREAM_CREDITS
    assert 0 <= credits_of(Lane.BACKFILL, load) <= BACKFILL_CREDITS


@given(load=loads)
def test_history_gives_way_before_live_samples(load: Load) -> None:
    if credits_of(Lane.LIVE, load) < STREAM_CREDITS:
        assert credits_of(Lane.BACKFILL, load) < BACKFILL_CREDITS
    if credits_of(Lane.LIVE, load) == 1:
        assert credits_of(Lane.BACKFILL, load) == 0


def test_a_store_that_keeps_up_gives_all_credits_and_one_that_does_not_the_least() -> None:
    def both(waiting: float, commit_seconds: float) -> tuple[int, int]:
        load = Load(int(waiting * WAITING_SAMPLES_MAX), commit_seconds)
        return credits_of(Lane.LIVE, load), credits_of(Lane.BACKFILL, load)

    assert both(0, 0.02) == (STREAM_CREDITS, BACKFILL_CREDITS)
    assert both(0.1, 0.2) == (STREAM_CREDITS, BACKFILL_CREDITS)
    assert both(0.35, 0) == (7, 1)
    assert both(0, COMMIT_SECONDS_MAX / 2) == (4, 0)
    assert both(1, 0) == both(0, COMMIT_SECONDS_MAX) == both(9, 99) == (1, 0)


def test_ranges_of_a_stream_full_of_gaps_stay_bounded() -> None:
    ranges = SequenceRanges((number, number) for number in range(1, 4 * RANGES_KEPT, 2))
    newest = ranges.to_list()[-100:]
    while len(ranges) > RANGES_KEPT:
        bounded(ranges)
    assert ranges.to_list()[-100:] == newest
    few = SequenceRanges([(1, 3), (9, 9)])
    assert bounded(few).to_list() == [(1, 3), (9, 9)]
