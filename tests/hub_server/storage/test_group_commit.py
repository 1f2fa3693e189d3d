"""Those who wait to write on SQLite share a commit, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sqlite3
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, insert
from sqlalchemy.exc import IntegrityError, OperationalError

from hub_server.access.tables import OrganisationRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.group_commit import WORKS_A_GROUP
from tests.clocks import FakeClock

Work = Callable[[Connection], int]


class Refusal(Exception):
    """What a work raises; unlike an error of Python's own it can be watched."""


class Hub:
    """Adds organisations. `added`: in which order. `commits`: how many there were of its database."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.database = Database(f"sqlite+aiosqlite:///{path}")
        self.added: list[int] = []
        self.commits = 0
        self._path = path
        self._now = clock.now()

    def add(self, number: int, connection: Connection) -> int:
        row = {"id": str(number), "name": str(number), "created_at": self._now}
        connection.execute(insert(OrganisationRow), row)
        self.added.append(number)
        return number

    def adding(self, *numbers: int) -> list[Work]:
        return [partial(self.add, number) for number in numbers]

    async def told(self, work: Work) -> int | Exception:
        """Return what somebody is told who asks for `work`; what they added is committed then."""
        try:
            number = await self.database.transact(EVERY_ORGANISATION, work)
        except (ZeroDivisionError, StopIteration, RuntimeError, IntegrityError, OperationalError) as error:
            return error
        assert number in self.committed()
        return number

    async def told_after_waiting(self, *works: Work) -> list[int | Exception]:
        """Return what all are told who ask in this order while somebody else writes."""
        async with asyncio.TaskGroup() as tasks, self.database.write(EVERY_ORGANISATION):
            asking = [tasks.create_task(self.told(work), name="transact") for work in works]
            await asyncio.sleep(0)
        return [task.result() for task in asking]

    async def write(self) -> set[int]:
        """Write what `transact` does not; return what was committed before."""
        async with self.database.write(EVERY_ORGANISATION) as connection:
            before = self.committed()
            await connection.run_sync(partial(self.add, len(self.added) + 1_000_000))
        return before

    def committed(self) -> set[int]:
        beside = sqlite3.connect(self._path)
        try:
            return {int(row[0]) for row in beside.execute("select id from organisations")}
        finally:
            beside.close()

    def count(self, connection: Connection) -> None:
        self.commits += connection.engine.url.database == str(self._path)


@pytest.fixture
async def hub(migrated_file: Path, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Hub]:
    opened = Hub(Path(shutil.copy(migrated_file, tmp_path / "hub.db")), clock)
    try:
        async with asyncio.timeout(30):
            yield opened
    finally:
        await opened.database.close()


@pytest.fixture
def counted(hub: Hub) -> Iterator[Hub]:
    event.listen(Engine, "commit", hub.count)
    yield hub
    event.remove(Engine, "commit", hub.count)


async def test_those_who_wait_are_committed_together_in_the_order_of_asking(counted: Hub) -> None:
    numbers = range(WORKS_A_GROUP + 10)
    assert await counted.told_after_waiting(*counted.adding(*numbers)) == [*numbers]
    assert counted.added == [*numbers]
    assert counted.commits == 1 + 2  # whom they waited for, and two groups
    assert counted.committed() == {*numbers}


async def test_nobody_waits_for_a_group_to_fill(counted: Hub) -> None:
    assert [await counted.told(work) for work in counted.adding(1, 2, 3)] == [1, 2, 3]
    assert counted.commits == 3


async def test_what_one_raises_undoes_it_alone(counted: Hub) -> None:
    def add_and_fail(connection: Connection) -> int:
        counted.add(99, connection)
        raise ZeroDivisionError

    def end_too_early(connection: Connection) -> int:
        counted.add(98, connection)
        return next(iter(()))

    one, two, same, three = counted.adding(1, 2, 1, 3)
    told = await counted.told_after_waiting(one, add_and_fail, two, same, end_too_early, three)
    kinds = [each if isinstance(each, int) else type(each) for each in told]
    assert kinds == [1, ZeroDivisionError, 2, IntegrityError, RuntimeError, 3]
    assert (counted.committed(), counted.commits) == ({1, 2, 3}, 2)


async def test_what_one_raises_who_waited_with_nobody_undoes_it_and_says_where_it_came_from(hub: Hub) -> None:
    def add_and_fail(connection: Connection) -> int:
        hub.add(99, connection)
        raise ZeroDivisionError

    one, two = hub.adding(1, 2)
    told = [await hub.told(work) for work in (one, add_and_fail, two)]
    assert isinstance(told[1], ZeroDivisionError)
    assert "add_and_fail" in "".join(traceback.format_exception(told[1]))
    assert [told[0], told[2], hub.committed()] == [1, 2, {1, 2}]


@pytest.mark.parametrize("others", [0, 1])
async def test_an_error_goes_with_the_last_who_knows_it_and_needs_no_collector(hub: Hub, others: int) -> None:
    known: list[weakref.ref[Refusal]] = []

    def refuse(_: Connection) -> int:
        refusal = Refusal()
        known.append(weakref.ref(refusal))
        try:
            raise refusal
        finally:
            del refusal

    async def refused() -> bool:
        try:
            await hub.database.transact(EVERY_ORGANISATION, refuse)
        except Refusal:
            return True
        return False

    gc.disable()
    try:
        async with asyncio.TaskGroup() as tasks, hub.database.write(EVERY_ORGANISATION):
            for number in range(others):
                tasks.create_task(hub.told(partial(hub.add, number)), name="transact")
            asked = tasks.create_task(refused(), name="transact")
            await asyncio.sleep(0)
        assert asked.result()
        assert [each() for each in known] == [None]
    finally:
        gc.enable()


async def test_a_commit_that_fails_is_told_to_all_of_its_group_and_to_no_other(hub: Hub) -> None:
    def promise_what_is_not_there(connection: Connection) -> int:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.exec_driver_sql("insert into memberships values ('nobody', 'nowhere', 'viewer')")
        return 0

    one, two, three = hub.adding(1, 2, 3)
    told = await hub.told_after_waiting(one, promise_what_is_not_there, two)
    assert [type(each) for each in told] == [IntegrityError] * 3
    assert hub.committed() == set()
    assert await hub.told_after_waiting(one, three) == [1, 3]


async def test_a_full_disk_is_told_to_all_whom_sqlite_undid_with_it(hub: Hub) -> None:
    def leave_no_room(connection: Connection) -> int:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        return int(connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar() or 0)

    def write_much(connection: Connection) -> int:
        connection.exec_driver_sql(
            "insert into users values ('u', ?, 'x', '', null, null, null, null, 0)", ("n" * 10**6,)
        )
        return 0

    one, two = hub.adding(1, 2)
    await hub.database.transact(EVERY_ORGANISATION, leave_no_room)
    told = await hub.told_after_waiting(one, write_much, two)
    assert [type(each) for each in told] == [OperationalError] * 3
    assert all("full" in str(each) for each in told)
    assert (hub.added, hub.committed()) == ([1], set())


async def test_who_is_cancelled_before_the_group_begins_is_left_out_and_holds_up_nobody(counted: Hub) -> None:
    async with asyncio.TaskGroup() as tasks, counted.database.write(EVERY_ORGANISATION):
        asking = [tasks.create_task(counted.told(work), name="transact") for work in counted.adding(*range(10))]
        await asyncio.sleep(0)
        for task in asking[::2]:
            task.cancel()
    assert counted.added == [1, 3, 5, 7, 9]
    assert counted.commits == 2
    assert await counted.told_after_waiting() == []


async def test_who_is_cancelled_while_the_group_runs_takes_nothing_from_the_others(hub: Hub) -> None:
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def tell_and_add(connection: Connection) -> int:
        loop.call_soon_threadsafe(begun.set)
        return hub.add(1, connection)

    async with asyncio.TaskGroup() as tasks:
        async with hub.database.write(EVERY_ORGANISATION):
            first = tasks.create_task(hub.told(tell_and_add), name="transact")
            second = tasks.create_task(hub.told(partial(hub.add, 2)), name="transact")
            await asyncio.sleep(0)
        await begun.wait()
        first.cancel()
    assert (first.cancelled(), second.result()) == (True, 2)
    assert await hub.write() == {1, 2}  # the turn is over: nothing is written beside the group


async def test_groups_and_the_others_who_write_take_turns(hub: Hub) -> None:
    """Whoever writes waits for one group at most, and the second group for those who wrote meanwhile."""
    numbers = range(2 * WORKS_A_GROUP + 10)
    async with asyncio.TaskGroup() as tasks, hub.database.write(EVERY_ORGANISATION):
        for work in hub.adding(*numbers):
            tasks.create_task(hub.told(work), name="transact")
        await asyncio.sleep(0)
        writing = [tasks.create_task(hub.write(), name="write") for _ in range(2)]
        await asyncio.sleep(0)
    first_group = set(numbers[:WORKS_A_GROUP])
    assert writing[0].result() == first_group
    assert {number for number in writing[1].result() if number in numbers} == first_group
    assert {*numbers} < hub.committed()


async def test_a_closed_database_tells_so(hub: Hub) -> None:
    await hub.database.close()
    assert isinstance(await hub.told(partial(hub.add, 1)), RuntimeError)
