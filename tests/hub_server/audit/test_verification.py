"""Nobody changes the audit unseen: changed, deleted, swapped, cut off, put in, rewritten."""

from __future__ import annotations

import asyncio
import base64
import random
import string
from collections.abc import Sequence

import msgspec
import pytest

from hub_server.audit.service import AuditService
from hub_server.audit.verification import CHECKPOINTS, ENTRIES, WITNESS, verify, verify_on
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.frames import Checkpoint
from tests.clocks import FakeClock
from tests.hub_server.audit.builders import HUBS, Signer, add_chains, add_entries, add_entries_at_once
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
