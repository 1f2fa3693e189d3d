"""Nobody changes the audit unseen: changed, deleted, swapped, cut off, put in, rewritten."""

from __future__ import annotations

import asyncio
import base64
import random
import string
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from hub_server.audit.model import CHAIN_BEFORE
from hub_server.audit.service import AuditService
from hub_server.audit.verification import CHECKPOINTS, ENTRIES, HEADS, WITNESS, verify, verify_on
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.frames import Checkpoint
from tests.clocks import FakeClock
from tests.hub_server.audit.builders import HUBS, Signer, add_chains, add_entries, add_entries_at_once, witness_of
from tests.hub_server.audit.mutations import ENTRIES_A_CHAIN, TABLES, Mutator, assert_found, undone

MUTATIONS = 60


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
async def witnesses(database: Database, clock: FakeClock, signer: Signer) -> Sequence[Checkpoint]:
    return await add_chains(database, clock, signer)


async def test_what_the_hub_wrote_stands(database: Database, signer: Signer, witnesses: Sequence[Checkpoint]) -> None:
    verdict = await verify(database, signer.keys, witnesses)
    assert (verdict.entries, verdict.checkpoints, verdict.witnesses, verdict.faults) == (40, 6, 2, [])


async def test_every_mutation_is_found_and_the_first_bad_row_named(
    database: Database, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    for seed in range(MUTATIONS):
        await assert_found(database, signer, witnesses, seed)


async def test_an_end_cut_off_with_its_head_is_known_to_a_witness_alone(
    database: Database, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    """What the documents say: without a later checkpoint or a witness nothing tells of it."""
    async with undone(database) as connection:
        mutation = await Mutator(connection, random.Random(1)).truncate_with_head(ENTRIES_A_CHAIN)
        unseen = await verify_on(connection, signer.keys)
        seen = await verify_on(connection, signer.keys, witnesses)
    assert (unseen.faults, mutation.by_witness) == ([], True)
    assert [(fault.table, fault.number) for fault in seen.faults] == [(ENTRIES, ENTRIES_A_CHAIN)]


async def test_a_witness_that_the_hub_never_signed_accuses_nobody_but_itself(
    database: Database, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    forged = msgspec.structs.replace(witnesses[0], hash="0" * 64)
    verdict = await verify(database, signer.keys, [forged, witnesses[1]])
    assert [(fault.table, fault.number) for fault in verdict.faults] == [(WITNESS, forged.number)]


async def test_a_chain_that_is_gone_is_known_to_a_witness(
    database: Database, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    async with database.write(EVERY_ORGANISATION) as connection:
        for table in TABLES.values():
            await connection.execute(table.delete().where(table.c.hub_id == HUBS[0]))
    assert (await verify(database, signer.keys)).faults == []
    [fault] = (await verify(database, signer.keys, witnesses)).faults
    assert fault.hub_id == HUBS[0]


async def test_a_checkpoint_by_a_key_that_the_root_never_named_counts_for_nothing(
    database: Database, clock: FakeClock, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    assert witnesses
    verdict = await verify(database, Signer().keys)
    assert {(fault.table, fault.number) for fault in verdict.faults} == {(CHECKPOINTS, 5)}


async def test_a_hub_may_write_while_it_is_verified(database: Database, clock: FakeClock, signer: Signer) -> None:
    await add_entries_at_once(database, clock, 3000)
    audit = AuditService(database=database, clock=clock, signer=signer)
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await add_entries(database, clock, 3)
            await audit.checkpoint()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        for _ in range(5):
            verdict = await verify(database, signer.keys)
            assert verdict.faults == []
            assert verdict.entries >= 3000
        done.set()


async def test_a_checkpoint_that_was_taken_out_is_named(
    database: Database, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    table = TABLES[CHECKPOINTS]
    async with undone(database) as connection:
        await connection.execute(table.delete().where(table.c.hub_id == HUBS[0], table.c.number == 10))
        verdict = await verify_on(connection, signer.keys, witnesses)
    assert [(fault.hub_id, fault.table, fault.number) for fault in verdict.faults] == [(HUBS[0], CHECKPOINTS, 10)]


async def test_a_signature_is_written_in_one_way_only(
    database: Database, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    """The last letter before the padding has bits that no decoder looks at."""
    table = TABLES[CHECKPOINTS]
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    async with undone(database) as connection:
        this = (table.c.hub_id == HUBS[0]) & (table.c.number == 5)
        signature = (await connection.execute(table.select().where(this))).mappings().one()["signature"]
        other = f"{signature[:-3]}{alphabet[alphabet.index(signature[-3]) + 1]}=="
        assert base64.b64decode(other) == base64.b64decode(signature)
        await connection.execute(table.update().where(this).values(signature=other))
        verdict = await verify_on(connection, signer.keys, witnesses)
    assert [(fault.hub_id, fault.table, fault.number) for fault in verdict.faults] == [(HUBS[0], CHECKPOINTS, 5)]


# A key of the audit that was stolen.


async def signed_by(database: Database, clock: FakeClock, signer: Signer) -> None:
    await add_entries(database, clock, 5)
    await AuditService(database=database, clock=clock, signer=signer).checkpoint()


async def test_what_a_revoked_key_signed_before_still_stands(
    database: Database, clock: FakeClock, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    successor = Signer("audit-2")
    revoked = {"audit-1": clock.now()}
    clock.advance(30)
    await signed_by(database, clock, successor)
    await signed_by(database, clock, signer)  # a hub that has not heard yet
    clock.advance(60)
    await signed_by(database, clock, successor)
    verdict = await verify(database, {**signer.keys, **successor.keys}, witnesses, revoked)
    assert (verdict.checkpoints, verdict.faults) == (9, [])


@pytest.mark.parametrize("is_back_dated", [False, True])
async def test_what_a_thief_signs_with_a_revoked_key_is_found(
    database: Database, clock: FakeClock, signer: Signer, is_back_dated: bool
) -> None:
    successor, thief = Signer("audit-2"), FakeClock()
    keys, revoked = {**signer.keys, **successor.keys}, {"audit-1": clock.now()}
    await signed_by(database, clock, signer)
    clock.advance(300)
    if is_back_dated:
        await signed_by(database, clock, successor)
    assert (await verify(database, keys, (), revoked)).faults == []
    await signed_by(database, thief if is_back_dated else clock, signer)
    [fault] = (await verify(database, keys, (), revoked)).faults
    assert (fault.table, "had been revoked" in fault.message) == (CHECKPOINTS, True)
    assert (await verify(database, keys)).faults == []


async def test_a_witness_of_a_key_that_had_been_revoked_is_none(
    database: Database, clock: FakeClock, signer: Signer
) -> None:
    await add_entries(database, clock, 5)
    witness = await witness_of(database, signer)  # it says: 1 ms after the epoch
    long_before = {"audit-1": datetime(1960, 1, 1, tzinfo=UTC)}
    assert (await verify(database, signer.keys, [witness])).faults == []
    [fault] = (await verify(database, signer.keys, [witness], long_before)).faults
    assert fault.table == WITNESS


async def test_what_was_written_before_there_were_chains_is_signed_once(
    database: Database, clock: FakeClock, signer: Signer
) -> None:
    earlier = Database(database.engine.url.render_as_string(hide_password=False), hub_id=CHAIN_BEFORE)
    try:
        await add_entries(earlier, clock, 5)
        for _ in range(2):
            audit = AuditService(database=database, clock=clock, signer=signer)
            await audit.load()
            await add_entries(database, clock, 2)
            await audit.checkpoint()
            verdict = await verify(database, signer.keys)
            assert (verdict.checkpoints, verdict.faults) == (verdict.entries // 2 - 1, [])
            newest = audit.newest_checkpoint()
            assert newest is not None
            assert newest.hub_id != CHAIN_BEFORE
    finally:
        await earlier.close()
    async with database.write(EVERY_ORGANISATION) as connection:
        entries = TABLES[ENTRIES]
        of_chain = entries.c.hub_id == CHAIN_BEFORE
        await connection.execute(entries.delete().where(of_chain, entries.c.number == 5))
        rewritten = (await connection.execute(entries.select().where(of_chain, entries.c.number == 4))).one()
        heads = TABLES[HEADS]
        end = heads.update().where(heads.c.hub_id == CHAIN_BEFORE)
        await connection.execute(end.values(number=4, hash=rewritten.hash))
    [fault] = (await verify(database, signer.keys)).faults
    assert (fault.hub_id, fault.table, fault.number) == (CHAIN_BEFORE, ENTRIES, 5)
