"""Nobody changes the audit unseen: changed, deleted, swapped, cut off, put in, rewritten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec
import pytest

from hub_server.audit.service import AuditService
from hub_server.audit.verification import ENTRIES, WITNESS, verify, verify_on
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.frames import Checkpoint
from tests.clocks import FakeClock
from tests.hub_server.audit.builders import HUBS, Signer, add_chains, add_entries
from tests.hub_server.audit.mutations import ENTRIES_A_CHAIN, TABLES, Mutation, Mutator

MUTATIONS = 60


class RolledBack(Exception):
    pass


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
        await found(database, signer, witnesses, seed)


async def found(database: Database, signer: Signer, witnesses: Sequence[Checkpoint], seed: int) -> Mutation:
    """Mutate by `seed`, assert that it is found where it was made, and take it back."""
    mutation: Mutation | None = None
    try:
        async with database.write(EVERY_ORGANISATION) as connection:
            mutation = await Mutator(connection, random.Random(seed)).mutate()
            verdict = await verify_on(connection, signer.keys, witnesses if mutation.by_witness else ())
            raise RolledBack
    except RolledBack:
        pass
    assert mutation is not None
    of_chain = [fault for fault in verdict.faults if fault.hub_id == mutation.hub_id]
    assert of_chain, f"{seed}: not found: {mutation.what}"
    first = of_chain[0]
    assert (first.table, first.number) in mutation.named, f"{seed}: {mutation.what} but {first}"
    return mutation


async def test_an_end_cut_off_with_its_head_is_known_to_a_witness_alone(
    database: Database, signer: Signer, witnesses: Sequence[Checkpoint]
) -> None:
    """What the documents say: without a later checkpoint or a witness nothing tells of it."""
    by_witness = [await found(database, signer, witnesses, seed) for seed in range(1000, 1060)]
    assert {mutation.by_witness for mutation in by_witness} == {True, False}
    try:
        async with database.write(EVERY_ORGANISATION) as connection:
            mutator = Mutator(connection, random.Random(1))
            mutation = await mutator.truncate_with_head(ENTRIES_A_CHAIN)
            unseen = await verify_on(connection, signer.keys)
            seen = await verify_on(connection, signer.keys, witnesses)
            raise RolledBack
    except RolledBack:
        pass
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
    assert {(fault.table, fault.number) for fault in verdict.faults} == {("audit_checkpoints", 5)}


async def test_a_hub_may_write_while_it_is_verified(database: Database, clock: FakeClock, signer: Signer) -> None:
    await add_entries(database, clock, 3000)
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
