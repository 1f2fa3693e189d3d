"""Which sequences are stored is true after every commit, whatever happened to the samples since."""

from __future__ import annotations

import pytest

from hub_server.telemetry.model import Resolution, StreamKey
from protocol.ranges import SequenceRanges
from tests.hub_server.telemetry.contract.builders import (
    DAY_MS,
    FATES,
    MIDNIGHT_MS,
    NOON_MS,
    Fate,
    Shelf,
    once_packed,
    once_reopened,
    sample,
)

either_fate = pytest.mark.parametrize("happen", [once_reopened, once_packed], ids=["reopened", "packed"])
LIVE = StreamKey("a1", "live", 1)


async def test_ranges_of_several_days_are_one(shelf: Shelf) -> None:
    await shelf.add(sample(1, NOON_MS - DAY_MS), sample(2, NOON_MS), sample(5, NOON_MS - 2 * DAY_MS))
    await shelf.add(sample(3, NOON_MS - 2 * DAY_MS), sample(8, MIDNIGHT_MS))
    async for _ in shelf.fates():
        assert await shelf.ranges() == {LIVE: [(1, 3), (5, 5), (8, 8)]}


async def test_numberings_are_apart(shelf: Shelf) -> None:
    await shelf.add(
        sample(1), sample(7, epoch=2), sample(9, stream="backfill"), sample(4, agent="a2"), sample(2, kind="disk./")
    )
    async for _ in shelf.fates():
        assert await shelf.ranges() == {
            LIVE: [(1, 2)],
            StreamKey("a1", "live", 2): [(7, 7)],
            StreamKey("a1", "backfill", 1): [(9, 9)],
            StreamKey("a2", "live", 1): [(4, 4)],
        }
        assert {stored.organisation_id for stored in await shelf.store.load_ranges()} == {"o1"}


async def test_the_numbering_written_last_is_at_the_end(shelf: Shelf) -> None:
    for epoch in (30, 10, 20):
        await shelf.add(sample(1, epoch=epoch), sample(2, epoch=epoch))
    async for _ in shelf.fates():
        assert [stored.key.epoch for stored in await shelf.store.load_ranges()][-1] == 20
    await shelf.add(sample(3, epoch=10), sample(3, epoch=30))
    async for _ in shelf.fates():
        assert [stored.key.epoch for stored in await shelf.store.load_ranges()] == [20, 10, 30]


async def test_after_a_commit_without_an_answer_the_disk_tells_what_it_holds(shelf: Shelf) -> None:
    await shelf.add(sample(1), sample(2))
    await shelf.add(sample(4, NOON_MS - DAY_MS), sample(1, epoch=9))
    async for _ in shelf.fates():
        keys = {LIVE, StreamKey("a1", "live", 3)}
        known = {stored.key: stored.ranges.to_list() for stored in await shelf.store.ranges_of(keys)}
        assert known[LIVE] == [(1, 2), (4, 4)]
        assert known.get(StreamKey("a1", "live", 3), []) == []
        assert StreamKey("a1", "live", 9) not in known


async def test_ranges_grow_on_after_packing_and_reopening(shelf: Shelf) -> None:
    for seq in range(1, 9):
        await shelf.add(sample(seq, NOON_MS - (seq % 3) * DAY_MS))
        if seq % 3:
            await FATES[seq % 2](shelf)
        assert await shelf.ranges() == {LIVE: [(1, seq)]}


async def test_closed_gaps_are_no_more_than_what_was_committed(shelf: Shelf) -> None:
    """A numbering with too many gaps is committed with more sequences than samples."""
    await shelf.add(sample(1), sample(9))
    shelf.committed[LIVE].add(1, 9)
    await shelf.add(sample(20))
    async for _ in shelf.fates():
        ranges = SequenceRanges((await shelf.ranges())[LIVE])
        assert all(seq in ranges for seq in (1, 9, 20))
        assert not any(seq in ranges for seq in (*range(10, 20), 21))


@either_fate
async def test_numberings_out_of_use_are_forgotten_and_their_samples_stay(shelf: Shelf, happen: Fate) -> None:
    await shelf.add(sample(1), sample(1, epoch=2))
    await happen(shelf)
    await shelf.store.drop_ranges([LIVE])
    async for _ in shelf.fates():
        assert await shelf.ranges() == {StreamKey("a1", "live", 2): [(1, 1)]}
        assert len(await shelf.times()) == 2


@either_fate
async def test_retention_of_samples_forgets_no_numbering_in_use(shelf: Shelf, happen: Fate) -> None:
    await shelf.add(sample(1, NOON_MS - DAY_MS), sample(2, NOON_MS))
    await happen(shelf)
    await shelf.store.drop_before(Resolution.RAW, MIDNIGHT_MS)
    async for _ in shelf.fates():
        [ranges] = (await shelf.ranges()).values()
        assert (2, 2) in ranges or (1, 2) in ranges
