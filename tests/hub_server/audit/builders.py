"""Chains of audit entries with checkpoints, signed by a key of the test's own."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert

from hub_server.audit.model import NOTHING_BEFORE, AuditEntry
from hub_server.audit.record import record
from hub_server.audit.service import AuditService
from hub_server.audit.store import AuditStore
from hub_server.audit.tables import AuditHeadRow, AuditRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database, hub_id_of
from protocol.envelope import checkpoint_statement
from protocol.frames import Checkpoint, Signature
from tests.clocks import FakeClock

HUBS: Final = ("hub-a", "hub-b")


class Signer:
    """Signs checkpoints with a key that only it has."""

    def __init__(self, key_id: str = "audit-1") -> None:
        self._key = Ed25519PrivateKey.generate()
        self._key_id = key_id

    @property
    def keys(self) -> Mapping[str, bytes]:
        return {self._key_id: self._key.public_key().public_bytes_raw()}

    def sign_checkpoint(self, statement: bytes) -> Signature:
        return Signature(key_id=self._key_id, signature=base64.b64encode(self._key.sign(statement)).decode())


async def add_entries(database: Database, clock: FakeClock, count: int, organisation_id: str = "o1") -> None:
    async with database.write(EVERY_ORGANISATION) as connection:
        for index in range(count):
            clock.advance(0.001234)
            await record(
                connection,
                organisation_id=organisation_id,
                at=clock.now(),
                actor="user:ada",
                action="commands:create",
                target=f"command:{index}",
                detail={"argv": ["écho", str(index)], "note": "ok"},
            )


async def add_entries_at_once(database: Database, clock: FakeClock, count: int) -> None:
    """Begin the hub's chain with many entries, by one statement."""
    previous, rows = NOTHING_BEFORE, list[dict[str, object]]()
    async with database.write(EVERY_ORGANISATION) as connection:
        hub_id = hub_id_of(connection)
        for number in range(1, count + 1):
            clock.advance(0.001234)
            entry = AuditEntry(
                hub_id=hub_id,
                number=number,
                organisation_id="o1",
                at=clock.now(),
                actor="user:ada",
                action="commands:create",
                target=f"command:{number}",
                detail='{"note":"ok"}',
            )
            previous = entry.hash_after(previous)
            rows.append(msgspec.structs.asdict(entry) | {"hash": previous})
        await connection.execute(insert(AuditRow), rows)
        await connection.execute(insert(AuditHeadRow).values(hub_id=hub_id, number=count, hash=previous, checkpoint=0))


async def add_chains(database: Database, clock: FakeClock, signer: Signer) -> Sequence[Checkpoint]:
    """Write a chain for each of HUBS: 20 entries, a checkpoint after each 5 but the last.

    Return a witness of each chain's end, signed and kept by nobody but an agent.
    """
    witnesses: list[Checkpoint] = []
    for hub_id in HUBS:
        opened = Database(database.engine.url.render_as_string(hide_password=False), hub_id=hub_id)
        audit = AuditService(database=opened, clock=clock, signer=signer)
        try:
            for _ in range(3):
                await add_entries(opened, clock, 5)
                await audit.checkpoint()
            await add_entries(opened, clock, 5)
            witnesses.append(await witness_of(opened, signer))
        finally:
            await opened.close()
    return witnesses


async def witness_of(database: Database, signer: Signer) -> Checkpoint:
    """Return a checkpoint of the end of the hub's chain that the hub does not store."""
    async with database.read(EVERY_ORGANISATION) as connection:
        hub_id = hub_id_of(connection)
        head = await AuditStore().locked_head(connection, hub_id)
    assert head is not None
    number, entry_hash, _ = head
    signature = signer.sign_checkpoint(checkpoint_statement(hub_id, number, entry_hash, 1))
    return Checkpoint(
        hub_id=hub_id, number=number, hash=entry_hash, at_ms=1, key_id="audit-1", signature=signature.signature
    )
