"""Buckets say what the samples said, packed or not, and outlive them."""

from __future__ import annotations

import pytest

from hub_server.telemetry.model import BUCKET_MS, Resolution
from tests.hub_server.telemetry.contract.builders import (
    DAY_MS,
    HOUR_MS,
    LATER_MS,
    MIDNIGHT_MS,
    MINUTE_MS,
    NOON_MS,
    Bucket,
    Fate,
    Shelf,
    once_packed,
    once_reopened,
    sample,
)

ROLLED = (Resolution.MINUTE, Resolution.FIVE_MINUTES, Resolution.HOUR)
every_resolution = pytest.mark.parametrize("resolution", ROLLED)


def buckets_of(values: dict[int, float], resolution: Resolution) -> dict[int, Bucket]:
    """Return the buckets of values by time."""
    width_ms = BUCKET_MS[resolution]
    inside: dict[int, list[float]] = {}
    for ts_ms, value in values.items():
        inside.setdefault(ts_ms - ts_ms % width_ms, []).append(value)
    return {start: (min(part), max(part), sum(part), len(part)) for start, part in inside.items()}


async def test_buckets_are_those_of_the_samples(shelf: Shelf) -> None:
    values = {MIDNIGHT_MS - HOUR_MS + 97_000 * step: float(step * 7 % 11) for step in range(150)}
    await shelf.add(*(sample(seq, at, {"cpu_percent": v}) for seq, (at, v) in enumerate(values.items(), 1)))
    async for _ in shelf.fates():
        for resolution in ROLLED:
            assert await shelf.gauge(resolution) == buckets_of(values, resolution)


@every_resolution
async def test_late_samples_change_the_buckets_they_belong_to(shelf: Shelf, resolution: Resolution) -> None:
    values = {NOON_MS + 20_000 * step: float(step) for step in range(40)}
    await shelf.add(*(sample(seq, at, {"cpu_percent": v}) for seq, (at, v) in enumerate(values.items(), 1)))
    await shelf.pack()
    late = {NOON_MS + 5_000: 500.0, NOON_MS + 305_000: -3.0, NOON_MS - 5 * HOUR_MS: 1.0}
    await shelf.add(*(sample(seq, at, {"cpu_percent": v}) for seq, (at, v) in enumerate(late.items(), 100)))
    async for _ in shelf.fates():
        assert await shelf.gauge(resolution) == buckets_of(values | late, resolution)


async def test_hours_that_are_packed_one_after_the_other_are_one_history(shelf: Shelf) -> None:
    values = {MIDNIGHT_MS + 50 * MINUTE_MS * step: float(step) for step in range(8)}
    for seq, (at_ms, value) in enumerate(values.items(), 1):
        await shelf.add(sample(seq, at_ms, {"cpu_percent": value}))
        await shelf.pack(at_ms + 25 * HOUR_MS)
    async for _ in shelf.fates():
        for resolution in ROLLED:
            assert await shelf.gauge(resolution) == buckets_of(values, resolution)


async def test_of_a_counter_the_last_value_counts(shelf: Shelf) -> None:
    await shelf.add(
        *(sample(seq, NOON_MS + 20_000 * seq, {"uptime_seconds": 20 * seq, "cpu_percent": 1.0}) for seq in range(10))
    )
    async for _ in shelf.fates():
        assert await shelf.counter(Resolution.MINUTE, "uptime_seconds") == {
            NOON_MS: 40,
            NOON_MS + MINUTE_MS: 100,
            NOON_MS + 2 * MINUTE_MS: 160,
            NOON_MS + 3 * MINUTE_MS: 180,
        }
        assert await shelf.counter(Resolution.HOUR, "uptime_seconds") == {NOON_MS: 180}
        assert (
            await shelf.gauge(Resolution.HOUR, "uptime_seconds") == await shelf.gauge(Resolution.HOUR, "unknown") == {}
        )


async def test_a_counter_goes_on_while_its_bucket_is_packed_in_pieces(shelf: Shelf) -> None:
    for seq in range(1, 8):
        at_ms = NOON_MS + 8 * MINUTE_MS * seq
        await shelf.add(sample(seq, at_ms, {"uptime_seconds": seq}))
        await shelf.pack(at_ms + MINUTE_MS)
        assert await shelf.counter(Resolution.HOUR, "uptime_seconds") == {NOON_MS: seq}


async def test_where_nothing_was_stored_there_is_no_bucket(shelf: Shelf) -> None:
    await shelf.add(sample(1, NOON_MS), sample(2, NOON_MS + 3 * HOUR_MS), sample(3, NOON_MS + HOUR_MS, {"other": 1}))
    async for _ in shelf.fates():
        for resolution in ROLLED:
            assert list(await shelf.gauge(resolution)) == [NOON_MS, NOON_MS + 3 * HOUR_MS]


async def test_only_buckets_that_begin_in_the_span_are_given_and_they_are_whole(shelf: Shelf) -> None:
    await shelf.add(*(sample(seq, NOON_MS + 30_000 * seq) for seq in range(12)))
    async for _ in shelf.fates():
        span = (NOON_MS + 30_000, NOON_MS + 3 * MINUTE_MS)
        assert await shelf.gauge(Resolution.MINUTE, span=span) == {
            NOON_MS + MINUTE_MS: (2.0, 3.0, 5.0, 2),
            NOON_MS + 2 * MINUTE_MS: (4.0, 5.0, 9.0, 2),
        }
        assert await shelf.gauge(Resolution.HOUR, span=span) == {}
        span = (NOON_MS, NOON_MS + 1)
        assert await shelf.gauge(Resolution.HOUR, span=span) == {NOON_MS: (0.0, 11.0, 66.0, 12)}


async def test_several_agents_are_answered_at_once_and_apart(shelf: Shelf) -> None:
    await shelf.add(
        *(
            sample(1, agent=agent, data={"cpu_percent": float(number)})
            for number, agent in enumerate(("a1", "a2", "a3"))
        ),
        sample(1, agent="b1", organisation="o2"),
        sample(2, agent="a1", kind="disk./"),
    )
    async for _ in shelf.fates():
        found = await shelf.buckets(Resolution.HOUR, agents=["a1", "a3", "b1", "none"])
        assert {agent: list(rollup.sums["cpu_percent"]) for agent, rollup in found.items() if rollup.timestamps} == {
            "a1": [0.0],
            "a3": [2.0],
        }
        of_others = await shelf.buckets(Resolution.HOUR, agents=["a1", "b1"], organisation="o2")
        assert [agent for agent, rollup in of_others.items() if rollup.timestamps] == ["b1"]


async def test_buckets_of_several_months_are_one_history(shelf: Shelf) -> None:
    times = [NOON_MS - days * DAY_MS for days in (70, 40, 22, 21, 0)]
    await shelf.add(*(sample(seq, at) for seq, at in enumerate(times, 1)))
    async for _ in shelf.fates():
        for resolution in ROLLED:
            assert list(await shelf.gauge(resolution)) == times


async def test_each_resolution_is_kept_for_its_own_time(shelf: Shelf) -> None:
    old, recent = NOON_MS - 45 * DAY_MS, NOON_MS
    await shelf.add(sample(1, old), sample(2, recent))
    await shelf.pack()

    async def kept() -> list[int]:
        return [len(await shelf.times()), *[len(await shelf.gauge(resolution)) for resolution in ROLLED]]

    assert await kept() == [2, 2, 2, 2]
    assert await shelf.store.drop_before(Resolution.RAW, old - HOUR_MS) == 0
    for position, resolution in enumerate((Resolution.RAW, *ROLLED)):
        assert await shelf.store.drop_before(resolution, MIDNIGHT_MS - 10 * DAY_MS) > 0
        assert await kept() == [1] * (position + 1) + [2] * (3 - position)
        assert await shelf.store.drop_before(resolution, MIDNIGHT_MS - 10 * DAY_MS) == 0
    await shelf.reopen()
    assert await kept() == [1, 1, 1, 1]


async def test_a_period_that_has_not_ended_at_the_cutoff_stays_whole(shelf: Shelf) -> None:
    await shelf.add(sample(1, MIDNIGHT_MS - 1), sample(2, MIDNIGHT_MS), sample(3, NOON_MS))
    await shelf.pack()
    assert await shelf.store.drop_before(Resolution.RAW, MIDNIGHT_MS - 1) == 0
    assert await shelf.store.drop_before(Resolution.RAW, NOON_MS) > 0
    assert await shelf.times() == [MIDNIGHT_MS, NOON_MS]
    await shelf.add(sample(4, MIDNIGHT_MS - 5))
    assert await shelf.times() == [MIDNIGHT_MS - 5, MIDNIGHT_MS, NOON_MS]


@pytest.mark.parametrize("happen", [once_reopened, once_packed], ids=["reopened", "packed"])
async def test_nothing_is_left_of_a_deleted_agent(shelf: Shelf, happen: Fate) -> None:
    for agent in ("a1", "a2"):
        await shelf.add(*(sample(seq, NOON_MS - seq * 20 * HOUR_MS, agent=agent) for seq in range(1, 5)))
        await shelf.add(sample(9, agent=agent, kind="disk./", stream="backfill"))
    await happen(shelf)
    await shelf.add(sample(10, LATER_MS - 1, agent="a1"), sample(10, LATER_MS - 1, agent="a2"))
    await shelf.store.delete_agent("o2", "a1")
    assert len(await shelf.times("a1")) == 5
    await shelf.store.delete_agent("o1", "a1")
    async for _ in shelf.fates():
        assert await shelf.times("a1") == await shelf.times("a1", "disk./") == []
        assert [await shelf.gauge(resolution, agent="a1") for resolution in ROLLED] == [{}, {}, {}]
        assert {key.agent_id for key in await shelf.ranges()} == {"a2"}
        assert {agent for agent, _ in await shelf.newest()} == {"a2"}
        assert len(await shelf.times("a2")) == 5
        assert [len(await shelf.gauge(resolution, agent="a2")) for resolution in ROLLED] == [5, 5, 5]
