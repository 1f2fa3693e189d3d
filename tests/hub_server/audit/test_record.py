"""One gapless chain a hub, whoever writes and whatever is rolled back."""

from __future__ import annotations

import asyncio
from functools import partial

from sqlalchemy import Connection, func, select
from sqlmodel import col

from hub_server.audit.record import record, record_within
from hub_server.audit.service import AuditService
from hub_server.audit.tables import AuditHeadRow, AuditRow
from hub_server.audit.verification import verify
from hub_server.storage.engine import Database
from tests.clocks import FakeClock
from tests.hub_server.audit.builders import Signer

WRITERS = 200


async def test_many_writers_of_whom_some_fail_make_one_chain_without_a_gap(
    database: Database, database_url: str, clock: FakeClock
) -> None:
    other = Database(database_url)  # the command line writes beside the hub

    async def write(number: int) -> None:
        async with (other if number % 2 else database).write(f"o{number % 3}") as connection:
            await record(
                connection,
                organisation_id=f"o{number % 3}",
                at=clock.now(),
                actor="hub",
                action="test:write",
                target=f"number:{number}",
            )
            if number % 5 == 0:
                raise ZeroDivisionError

    try:
        async with asyncio.timeout(60):
            ends = await asyncio.gather(*(write(number) for number in range(WRITERS)), return_exceptions=True)
    finally:
        await other.close()
    assert ends.count(None) == WRITERS * 4 // 5
    assert sum(isinstance(end, ZeroDivisionError) for end in ends) == WRITERS // 5
    verdict = await verify(database, {})
    assert (verdict.entries, verdict.faults) == (WRITERS * 4 // 5, [])
    async with database.read("o1") as connection:
        seen = await connection.scalar(select(func.count()).select_from(AuditRow))
        last = await connection.scalar(select(col(AuditHeadRow.number)))
    assert last == WRITERS * 4 // 5
    assert seen == (last if database.is_sqlite else sum(n % 3 == 1 and n % 5 != 0 for n in range(WRITERS)))


async def test_transactions_that_share_a_commit_leave_no_gap_where_one_of_them_fails(
    database: Database, clock: FakeClock
) -> None:
    def write(number: int, connection: Connection) -> None:
        for part in range(2):
            record_within(
                connection,
                organisation_id="o1",
                at=clock.now(),
                actor="hub",
                action="test:write",
                target=f"number:{number}.{part}",
            )
        if number % 5 == 0:
            raise ZeroDivisionError

    async with asyncio.timeout(60):
        ends = await asyncio.gather(
            *(database.transact("o1", partial(write, number)) for number in range(50)), return_exceptions=True
        )
    assert [number for number, end in enumerate(ends) if isinstance(end, ZeroDivisionError)] == [*range(0, 50, 5)]
    verdict = await verify(database, {})
    assert (verdict.entries, verdict.faults) == (80, [])
    async with database.read("o1") as connection:
        targets = await connection.scalars(select(col(AuditRow.target)).order_by(col(AuditRow.number)))
    stored = [target for target in targets if target.endswith(".1")]
    assert len(stored) == 40
    assert not any(f"number:{number}.1" in stored for number in range(0, 50, 5))


async def test_a_checkpoint_is_made_when_the_chain_moved_and_outlives_the_hub(
    database: Database, clock: FakeClock
) -> None:
    signer = Signer()
    audit = AuditService(database=database, clock=clock, signer=signer)
    await audit.checkpoint()
    assert audit.newest_checkpoint() is None
    async with database.write("o1") as connection:
        await record(connection, organisation_id="o1", at=clock.now(), actor="hub", action="a", target="b:c")
    await audit.checkpoint()
    first = audit.newest_checkpoint()
    assert first is not None
    assert (first.hub_id, first.number) == ("hub", 1)
    clock.advance(60)
    await audit.checkpoint()
    assert audit.newest_checkpoint() == first
    again = AuditService(database=database, clock=clock, signer=signer)
    await again.load()
    assert again.newest_checkpoint() == first
    assert (await verify(database, signer.keys, [first])).faults == []
