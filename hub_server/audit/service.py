"""What can be asked of the audit, and its checkpoints: the places of the chain that the hub signs."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal, permits
from hub_server.audit.model import CHAIN_BEFORE, AuditEntry, SignedPlace
from hub_server.audit.store import AuditStore
from hub_server.clock import Clock, from_milliseconds, milliseconds
from hub_server.storage.engine import EVERY_ORGANISATION, Database, hub_id_of
from protocol.envelope import checkpoint_statement
from protocol.frames import Checkpoint, Signature
from protocol.oversight import AuditEntryView, AuditSearch, AuditSearchReply


class CheckpointSigner(Protocol):
    """Signs with the audit key that agents know from the trust document."""

    def sign_checkpoint(self, statement: bytes) -> Signature: ...


class AuditService:
    def __init__(self, *, database: Database, clock: Clock, signer: CheckpointSigner) -> None:
        self._database = database
        self._clock = clock
        self._signer = signer
        self._store = AuditStore()
        self._newest: Checkpoint | None = None
        self._is_earlier_unsigned = False

    async def load(self) -> None:
        """Read the newest checkpoint of this hub."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            place = await self._store.newest_checkpoint(connection, hub_id_of(connection))
            earlier = await self._store.locked_head(connection, CHAIN_BEFORE)
            self._is_earlier_unsigned = earlier is not None and earlier[2] == 0
        self._newest = None if place is None else place.as_checkpoint()

    def newest_checkpoint(self) -> Checkpoint | None:
        """Return what agents are given to witness."""
        return self._newest

    async def checkpoint(self) -> None:
        """Sign the end of this hub's chain when it moved; once also that of what is from before there were chains."""
        async with self._database.write(EVERY_ORGANISATION) as connection:
            if self._is_earlier_unsigned:
                await self._sign_end(connection, CHAIN_BEFORE)
            place = await self._sign_end(connection, hub_id_of(connection))
        self._is_earlier_unsigned = False
        if place is not None:
            self._newest = place.as_checkpoint()

    async def _sign_end(self, connection: AsyncConnection, hub_id: str) -> SignedPlace | None:
        head = await self._store.locked_head(connection, hub_id)
        if head is None or head[0] == head[2]:
            return None
        number, entry_hash, previous = head
        at_ms = milliseconds(self._clock.now())
        signature = self._signer.sign_checkpoint(checkpoint_statement(hub_id, number, entry_hash, at_ms))
        place = SignedPlace(
            hub_id=hub_id,
            number=number,
            hash=entry_hash,
            at=from_milliseconds(at_ms),
            previous=previous,
            key_id=signature.key_id,
            signature=signature.signature,
        )
        await self._store.add_checkpoint(connection, place)
        return place

    async def search(self, principal: Principal, request: AuditSearch) -> AuditSearchReply:
        """Return the organisation's entries; to administrators of the hub also those of what it does for all."""
        organisation_id = authorize(principal, Permission.AUDIT_READ)
        scope, organisation_ids = organisation_id, {organisation_id}
        if permits(principal, Permission.ORGANISATIONS_READ):
            scope, organisation_ids = EVERY_ORGANISATION, {organisation_id, EVERY_ORGANISATION}
        async with self._database.read(scope) as connection:
            found, total = await self._store.page(connection, organisation_ids, request)
        return AuditSearchReply(
            entries=[view_of(entry, entry_hash) for entry, entry_hash in found],
            total=total,
            limit=request.limit,
            offset=request.offset,
        )


def view_of(entry: AuditEntry, entry_hash: str) -> AuditEntryView:
    return AuditEntryView(
        hub_id=entry.hub_id,
        number=entry.number,
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        target=entry.target,
        detail=_detail_of(entry),
        hash=entry_hash,
    )


def _detail_of(entry: AuditEntry) -> dict[str, Any]:
    try:
        detail: dict[str, Any] = msgspec.json.decode(entry.detail, type=dict[str, Any])
    except msgspec.DecodeError:  # altered by somebody with the database: `jtnt-hub audit verify` says where
        return {"unreadable": entry.detail}
    return detail
