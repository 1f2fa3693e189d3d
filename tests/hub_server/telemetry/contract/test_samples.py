"""What was stored comes back, packed or not, opened again or not."""

from __future__ import annotations

import asyncio

from hub_server.telemetry.port import NewSample
from protocol.frames import MetricValue
from tests.hub_server.telemetry.contract.builders import (
    DAY_MS,
    HOUR_MS,
    LATER_MS,
    MIDNIGHT_MS,
    MINUTE_MS,
    NOON_MS,
    Shelf,
    sample,
)

KINDS: dict[str, MetricValue] = {
    "percent": 12.5,
    "whole": 3.0,
    "count": 7,
    "beyond_doubles": 2**53 + 1,
    "widest": 2**63 - 1,
    "lowest": -(2**63),
    "name": "ext4 \N{GREEK SMALL LETTER OMEGA}",
    "odd": "quote ' \" \\ \t {} \x01",
    "up": True,
    "down": False,
    "nothing": None,
    "processes": [{"pid": 1, "name": "init", "cpu": 0.5, "zombie": False, "tty": None}, {}],
    "empty": [],
}


async def test_samples_come_back_in_order_of_time(shelf: Shelf) -> None:
    await shelf.add(sample(3), sample(1), sample(2, data={"other": 5}))
    await shelf.add(sample(4))
    async for _ in shelf.fates():
        found = await shelf.raw("cpu_percent", "other", "unknown")
        assert list(found.timestamps) == [NOON_MS + 10_000 * seq for seq in (1, 2, 3, 4)]
        assert {name: list(values) for name, values in found.values.items()} == {
            "cpu_percent": [1.0, None, 3.0, 4.0],
            "other": [None, 5, None, None],
            "unknown": [None] * 4,
        }


async def test_a_span_begins_with_its_first_moment_and_ends_before_its_last(shelf: Shelf) -> None:
    await shelf.add(*(sample(seq) for seq in range(1, 6)))
    async for _ in shelf.fates():
        found = await shelf.raw(span=(NOON_MS + 20_000, NOON_MS + 40_000))
        assert list(found.values["cpu_percent"]) == [2.0, 3.0]
        assert list((await shelf.raw(span=(NOON_MS - HOUR_MS, NOON_MS))).timestamps) == []


async def test_series_are_apart(shelf: Shelf) -> None:
    await shelf.add(sample(1), sample(2, kind="disk./"), sample(1, agent="a2"), sample(2, agent="a2", kind="disk./"))
    async for _ in shelf.fates():
        assert [
            await shelf.values(agent, kind) for agent, kind in (("a1", "system"), ("a1", "disk./"), ("a2", "disk./"))
        ] == [[1.0], [2.0], [2.0]]
        assert await shelf.values("a3") == await shelf.values("a1", "none") == []


async def test_values_of_every_kind_come_back_as_they_were(shelf: Shelf) -> None:
    await shelf.add(sample(1, data={"percent": 0.5}), sample(2, data=KINDS))
    async for _ in shelf.fates():
        newest = await shelf.newest()
        assert newest == {("a1", "system"): (NOON_MS + 20_000, KINDS)}
        data = newest["a1", "system"][1]
        assert {name: type(value) for name, value in data.items()} == {
            name: type(value) for name, value in KINDS.items()
        }


async def test_only_numbers_are_drawn_and_whole_ones_are_exact(shelf: Shelf) -> None:
    await shelf.add(sample(1, data=KINDS), sample(2, data={"count": "seven"}))
    async for _ in shelf.fates():
        found = (await shelf.raw(*KINDS)).values
        numbers = {name: list(values) for name, values in found.items() if list(values) != [None, None]}
        assert numbers == {
            name: [KINDS[name], None] for name in ("percent", "whole", "count", "beyond_doubles", "widest", "lowest")
        }


async def test_late_samples_join_their_own_hour(shelf: Shelf) -> None:
    await shelf.add(sample(1), sample(5))
    await shelf.pack()
    late = [sample(seq, stream="backfill") for seq in (3, 2, 4)]
    for taken in late:
        await shelf.add(taken)
        assert len(await shelf.values()) == 2 + late.index(taken) + 1
        await shelf.pack()
        assert len(await shelf.values()) == 2 + late.index(taken) + 1
    assert await shelf.values() == [1.0, 2.0, 3.0, 4.0, 5.0]
    await shelf.reopen()
    assert await shelf.values() == [1.0, 2.0, 3.0, 4.0, 5.0]


async def test_packing_hour_by_hour_keeps_everything_there_at_every_moment(shelf: Shelf) -> None:
    times = [MIDNIGHT_MS + 7 * MINUTE_MS * step for step in range(40)]
    for seq, ts_ms in enumerate(times, 1):
        await shelf.add(sample(seq, ts_ms))
        if seq % 4 == 0:
            await shelf.pack(ts_ms + 1000)
            assert await shelf.times() == times[:seq]
    await shelf.pack()
    assert await shelf.times() == times


async def test_samples_of_many_days_are_one_history(shelf: Shelf) -> None:
    times = [NOON_MS - day * DAY_MS for day in range(4)]
    await shelf.add(*(sample(seq, ts_ms) for seq, ts_ms in enumerate(times, 1)))
    async for _ in shelf.fates():
        assert await shelf.times() == times[::-1]


async def test_a_batch_around_midnight_goes_to_both_days(shelf: Shelf) -> None:
    times = [MIDNIGHT_MS - 1, MIDNIGHT_MS, MIDNIGHT_MS + 1]
    await shelf.add(*(sample(seq, ts_ms) for seq, ts_ms in enumerate(times, 1)))
    async for _ in shelf.fates():
        assert await shelf.times() == times
        found = await shelf.raw(span=(MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS))
        assert list(found.timestamps) == times[1:]


async def test_samples_of_the_same_moment_are_all_there(shelf: Shelf) -> None:
    await shelf.add(*(sample(seq, NOON_MS) for seq in (1, 2, 3)))
    async for _ in shelf.fates():
        assert sorted(value or 0 for value in await shelf.values()) == [1.0, 2.0, 3.0]


async def test_organisations_are_apart(shelf: Shelf) -> None:
    await shelf.add(sample(1), sample(1, agent="b1", organisation="o2"))
    async for _ in shelf.fates():
        assert list((await shelf.raw(agent="b1")).timestamps) == []
        assert list((await shelf.raw(agent="b1", organisation="o2")).timestamps) == [NOON_MS + 10_000]
        assert list((await shelf.raw(agent="b1", organisation="*")).timestamps) == []


async def test_the_newest_of_each_series_is_known(shelf: Shelf) -> None:
    await shelf.add(
        sample(1, NOON_MS - DAY_MS, agent="away"),
        sample(1),
        sample(3),
        sample(2),
        sample(4, NOON_MS, kind="disk./"),
        sample(5, LATER_MS + HOUR_MS),
    )
    async for _ in shelf.fates():
        assert await shelf.newest() == {
            ("a1", "disk./"): (NOON_MS, {"cpu_percent": 4.0}),
            ("a1", "system"): (NOON_MS + 30_000, {"cpu_percent": 3.0}),
            ("away", "system"): (NOON_MS - DAY_MS, {"cpu_percent": 1.0}),
        }
        assert (await shelf.newest(NOON_MS + 25_000))["a1", "system"] == (NOON_MS + 20_000, {"cpu_percent": 2.0})
        stored = await shelf.store.load_newest(LATER_MS)
        assert {newest.organisation_id for newest in stored} == {"o1"}


async def test_adding_packing_and_asking_go_on_at_once(shelf: Shelf) -> None:
    """No question sees a sample twice or misses one that was committed before it."""
    total, committed, is_done = 120, 0, False

    async def add() -> None:
        nonlocal committed, is_done
        for seq in range(1, total + 1, 4):
            await shelf.add(*(_old(number) for number in range(seq, seq + 4)))
            committed = seq + 3
        is_done = True

    async def pack() -> None:
        while not is_done:
            await shelf.store.pack(LATER_MS)

    async def ask() -> None:
        while not is_done:
            least = committed
            found = await shelf.times()
            assert len(found) == len(set(found)) >= least
            counted = await shelf.store.load_newest(LATER_MS)
            assert len(counted) == (1 if least else len(counted))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for work in (add, pack, ask):
            group.create_task(work())
    await shelf.pack()
    assert len(await shelf.times()) == total


def _old(seq: int) -> NewSample:
    return sample(seq, MIDNIGHT_MS - DAY_MS + seq * 37_000)


async def test_figures_tell_what_is_not_packed_yet(shelf: Shelf) -> None:
    await shelf.add(*(sample(seq) for seq in range(1, 31)))
    assert shelf.store.figures().hot_samples == 30
    assert await shelf.pack() == 30
    figures = shelf.store.figures()
    assert figures.hot_samples == 0
    assert 0 < figures.packed_bytes <= figures.total_bytes
    assert await shelf.pack() == 0
