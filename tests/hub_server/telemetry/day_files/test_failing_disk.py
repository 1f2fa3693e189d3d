"""What the disk does not take is not acknowledged, and the store heals by itself."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hub_server.storage import sqlite_files
from hub_server.telemetry.day_files.day import Day
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import Resolution, StreamKey
from hub_server.telemetry.port import StoreFailed
from tests.hub_server.telemetry.contract.builders import DAY_MS, NOON_MS, Shelf, sample
from tests.hub_server.telemetry.day_files.journey import assert_complete, travel

LIVE = StreamKey("a1", "live", 1)


class Faulty(sqlite3.Connection):
    """A connection on a disk that fails; `fails` is asked at each commit, and says when: before it, after it or not."""

    fails: Callable[[], str] = staticmethod(lambda: "")

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        when = Faulty.fails() if statement == "COMMIT" else ""
        if when == "before":
            raise sqlite3.OperationalError("disk I/O error")
        cursor = super().execute(statement, parameters)
        if when == "after":
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Faulty]]:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Faulty))
    yield Faulty
    Faulty.fails = staticmethod(lambda: "")


async def test_commits_fail_again_and_again_and_all_is_stored_once(
    folder: Path, unsynced: None, faulty: type[Faulty]
) -> None:
    """Some of them have taken effect all the same."""
    chance = random.Random(4)
    store = DayFiles(folder=folder)
    await store.open()
    faulty.fails = staticmethod(lambda: chance.choices(("", "before", "after"), (8, 1, 1))[0])
    failures = await travel(store, lambda _number: None)
    faulty.fails = staticmethod(lambda: "")
    assert failures > 5
    await assert_complete(store)
    await store.close()
    await store.open()
    await assert_complete(store)
    await store.close()


@pytest.mark.parametrize(("when", "stored"), [("before", [(1, 1)]), ("after", [(1, 2)])])
async def test_after_an_unanswered_commit_the_disk_says_what_is_stored(
    faulty: type[Faulty], shelf: Shelf, when: str, stored: list[tuple[int, int]]
) -> None:
    await shelf.add(sample(1))
    faulty.fails = staticmethod(lambda: when)
    with pytest.raises(StoreFailed) as failed:
        await shelf.add(sample(2))
    faulty.fails = staticmethod(lambda: "")
    assert failed.value.temporary
    [ranges] = await shelf.store.ranges_of({LIVE})
    assert ranges.ranges.to_list() == stored
    assert len(await shelf.times()) == stored[0][1]


async def test_of_a_batch_of_two_days_what_was_committed_is_known(faulty: type[Faulty], shelf: Shelf) -> None:
    await shelf.add(sample(1), sample(2, NOON_MS - DAY_MS))
    answers = iter(["", "before"])
    faulty.fails = staticmethod(lambda: next(answers))
    with pytest.raises(StoreFailed):
        await shelf.add(sample(3), sample(4, NOON_MS - DAY_MS))
    faulty.fails = staticmethod(lambda: "")
    [ranges] = await shelf.store.ranges_of({LIVE})
    assert ranges.ranges.to_list() == [(1, 2), (4, 4)]


async def test_a_full_disk_takes_nothing_answers_questions_and_is_used_again_once_there_is_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_files, "WRITER_PRAGMAS", (*sqlite_files.WRITER_PRAGMAS, "max_page_count=40"))
    async with Shelf(lambda: DayFiles(folder=folder)).opened() as shelf:
        store = shelf.store
        assert isinstance(store, DayFiles)
        seq = 0
        while await takes(shelf, seq):
            seq += 200
        known = await shelf.ranges()
        assert known == {LIVE: [(0, seq - 1)]}
        assert len(await shelf.times()) == seq
        with suppress(StoreFailed):
            await shelf.pack()
        assert len(await shelf.times()) == seq
        monkeypatch.undo()
        for day in store._known_days():
            await store._in_writer(room_for, day)
        assert await takes(shelf, seq)
        await shelf.pack()
        assert len(await shelf.times()) == seq + 200
        await shelf.reopen()
        assert await shelf.ranges() == {LIVE: [(0, seq + 199)]}
        assert len(await shelf.times()) == seq + 200


async def test_what_cannot_be_written_down_is_refused_for_good_and_harms_nothing_else(shelf: Shelf) -> None:
    for bad in (sample(1, data={"name": "\ud800"}), sample(1, 10**17)):
        with pytest.raises(StoreFailed) as failed:
            await shelf.add(bad)
        assert not failed.value.temporary
    assert await shelf.times() == []
    await shelf.add(sample(7))
    assert len(await shelf.times()) == 1


async def test_numbers_that_no_sum_holds_keep_nothing_else_from_being_packed(shelf: Shelf) -> None:
    huge = [sample(seq, data={"bytes": 2**63 - 1, "rate": 1e308}, agent="a2") for seq in range(20)]
    await shelf.add(*huge, *(sample(seq) for seq in range(20)))
    assert await shelf.pack() == 40
    assert [bucket[3] for bucket in (await shelf.gauge(Resolution.HOUR)).values()] == [20]
    found = await shelf.raw("bytes", "rate", agent="a2")
    assert {name: {*values} for name, values in found.values.items()} == {"bytes": {2**63 - 1}, "rate": {1e308}}


def room_for(day: Day) -> None:
    day._opened().execute("PRAGMA max_page_count=100000")


async def takes(shelf: Shelf, first: int) -> bool:
    """Tell whether the store takes 200 more samples."""
    try:
        await shelf.add(*(sample(first + number) for number in range(200)))
    except StoreFailed as error:
        if not error.temporary:
            raise
        return False
    return True
