"""Walks every chain of the audit and says where it was altered.

What each part finds: the hashes an entry that was changed, moved or put in; the numbers one that is missing; the head
entries that were cut off the end. Who rewrites the head as well is found by a later checkpoint, and who removes those
too by a witness: a checkpoint that an agent keeps. A key that was revoked proves what it signed before that.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.evidence import Evidence, StoredCheckpoint, StoredEntry, StoredHead
from hub_server.audit.model import NOTHING_BEFORE, AuditEntry, SignedPlace, statement_of
from hub_server.clock import milliseconds
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.frames import Checkpoint

ENTRIES: Final = "audit_entries"
HEADS: Final = "audit_heads"
CHECKPOINTS: Final = "audit_checkpoints"
WITNESS: Final = "witness"

AuditKeys = Mapping[str, bytes]
"""Key id → 32 bytes of an Ed25519 key."""
Revoked = Mapping[str, datetime]
"""Key id → when the key was revoked."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NONE_REVOKED: Final[Revoked] = MappingProxyType({})
REVOCATION_HEARD: Final = timedelta(minutes=2)
"""How long the slowest hub may go on with a key that was revoked."""


class Fault(Struct, frozen=True, rename="camel"):
    """A row that is not as the hub wrote it, the first one that a test found. `number`: its place in the chain."""

    hub_id: str
    table: str
    number: int | None
    message: str


class Verdict(Struct, frozen=True, rename="camel"):
    """Rows that were checked and what was found; the first bad entry of a chain comes before its other faults."""

    entries: int
    checkpoints: int
    witnesses: int
    faults: list[Fault]


class _Bad(Exception):
    def __init__(self, table: str, number: int | None, message: str) -> None:
        super().__init__(message)
        self.table, self.number, self.message = table, number, message


async def verify(
    database: Database,
    audit_keys: AuditKeys,
    witnesses: Sequence[Checkpoint] = (),
    revoked: Revoked = NONE_REVOKED,
) -> Verdict:
    """Check every chain. `audit_keys`, `revoked`: those of root-signed trust documents.

    Holds one page of rows and the witnesses in memory. The hub may write meanwhile.
    """
    async with database.read(EVERY_ORGANISATION) as connection:
        return await verify_on(connection, audit_keys, witnesses, revoked)


async def verify_on(
    connection: AsyncConnection,
    audit_keys: AuditKeys,
    witnesses: Sequence[Checkpoint] = (),
    revoked: Revoked = NONE_REVOKED,
) -> Verdict:
    """Check what the transaction of `connection` sees."""
    signed = [held for held in witnesses if _is_signed(held, audit_keys) and not _is_late(held, revoked)]
    faults = [
        Fault(
            held.hub_id,
            WITNESS,
            held.number,
            "this witness is not signed by a key of this hub, or by one that had been revoked",
        )
        for held in witnesses
        if held not in signed
    ]
    evidence, entries, checkpoints = Evidence(connection), 0, 0
    stored = await evidence.hub_ids()
    if None in stored:
        faults.append(Fault("", ENTRIES, None, "there is a row whose hub id is no text"))
    for hub_id in sorted({*filter(None, stored), *(held.hub_id for held in signed)}):
        own = [held for held in signed if held.hub_id == hub_id]
        chain = _Chain(evidence, hub_id, audit_keys, own, revoked)
        await chain.check()
        faults.extend(chain.faults)
        entries, checkpoints = entries + chain.entries, checkpoints + chain.checkpoints
    return Verdict(entries, checkpoints, len(witnesses), faults)


class _Chain:
    """One hub's chain. The head is always read before the rows that it is compared with: rows only come to it."""

    def __init__(
        self,
        evidence: Evidence,
        hub_id: str,
        audit_keys: AuditKeys,
        witnesses: Sequence[Checkpoint],
        revoked: Revoked,
    ) -> None:
        self._evidence = evidence
        self._hub_id = hub_id
        self._audit_keys = audit_keys
        self._revoked = revoked
        self._heard_at = max(revoked.values(), default=_EPOCH) + REVOCATION_HEARD
        self._is_past_revoked = False
        self._witnesses = sorted(witnesses, key=lambda held: held.number, reverse=True)
        self._last_hash = NOTHING_BEFORE
        self._last_checkpoint = 0
        self.entries = 0
        self.checkpoints = 0
        self.faults: list[Fault] = []

    async def check(self) -> None:
        for test in (self._check_entries, self._check_checkpoints):
            try:
                await test()
            except _Bad as bad:
                self._note(bad.table, bad.number, bad.message)

    async def _check_entries(self) -> None:
        while True:
            head = await self._evidence.head(self._hub_id)
            page = await self._evidence.entries_after(self._hub_id, self.entries or None)
            if not page:
                break
            for stored in page:
                self._check_entry(stored)
        self._check_end(head)
        if self._witnesses:
            newest = self._witnesses[0].number
            raise _Bad(ENTRIES, self.entries + 1, f"this entry is missing: a witness says there were {newest}")

    def _check_entry(self, stored: StoredEntry) -> None:
        expected = self.entries + 1
        if stored.number is None:
            raise _Bad(ENTRIES, expected, "this entry was altered: its number is none")
        if stored.number < expected:
            raise _Bad(ENTRIES, stored.number, "this entry was put in: no chain has this number")
        if stored.number > expected:
            raise _Bad(ENTRIES, expected, "this entry is missing")
        entry = _entry_of(self._hub_id, stored)
        if entry is None or stored.hash is None:
            raise _Bad(ENTRIES, expected, "this entry was altered: a value is of the wrong kind")
        if entry.hash_after(self._last_hash) != stored.hash:
            raise _Bad(ENTRIES, expected, "this entry was altered: it does not fit its hash")
        self.entries, self._last_hash = expected, stored.hash
        self._compare_witnesses()

    def _compare_witnesses(self) -> None:
        while self._witnesses and self._witnesses[-1].number <= self.entries:
            held = self._witnesses.pop()
            if held.number == self.entries and held.hash != self._last_hash:
                self._note(ENTRIES, held.number, "this entry, or one before it, was rewritten: a witness differs")

    def _check_end(self, head: StoredHead | None) -> None:
        if head is None:
            raise _Bad(HEADS, None, f"the head of this chain is missing; it has {self.entries} entries")
        if head.number == self.entries and head.hash == self._last_hash:
            return
        if head.number is None or head.hash == self._last_hash or head.number <= self.entries:
            raise _Bad(HEADS, head.number, f"the head was altered: the chain ends with entry {self.entries}")
        raise _Bad(ENTRIES, self.entries + 1, f"this entry is missing: the head says there were {head.number}")

    async def _check_checkpoints(self) -> None:
        while True:
            head = await self._evidence.head(self._hub_id)
            page = await self._evidence.checkpoints_after(self._hub_id, self._last_checkpoint or None)
            if not page:
                break
            for stored in page:
                self._check_checkpoint(stored)
        newest = 0 if head is None else head.checkpoint
        if newest != self._last_checkpoint:
            raise _Bad(CHECKPOINTS, newest, f"the head names this checkpoint, but the last is {self._last_checkpoint}")

    def _check_checkpoint(self, stored: StoredCheckpoint) -> None:
        place = _place_of(self._hub_id, stored)
        if place is None or not _is_signed(place.as_checkpoint(), self._audit_keys):
            raise _Bad(CHECKPOINTS, stored.number, "this checkpoint was altered: it has no signature of this hub")
        is_revoked = place.key_id in self._revoked
        if is_revoked and (self._is_past_revoked or _is_late(place.as_checkpoint(), self._revoked)):
            raise _Bad(CHECKPOINTS, place.number, "this checkpoint was put in: its key had been revoked before")
        self._is_past_revoked = self._is_past_revoked or (not is_revoked and place.at >= self._heard_at)
        if place.previous > self._last_checkpoint:
            raise _Bad(
                CHECKPOINTS, place.previous, f"this checkpoint is missing: that of entry {place.number} names it"
            )
        if place.previous != self._last_checkpoint:
            raise _Bad(CHECKPOINTS, place.number, "this checkpoint was altered: it names another before it")
        if stored.entry_hash is None:
            number = self.entries + 1 if place.number > self.entries else place.number
            raise _Bad(ENTRIES, number, f"this entry is missing: a checkpoint says there were {place.number}")
        if stored.entry_hash != place.hash:
            raise _Bad(ENTRIES, place.number, "this entry, or one before it, was rewritten: its checkpoint differs")
        self._last_checkpoint = place.number
        self.checkpoints += 1

    def _note(self, table: str, number: int | None, message: str) -> None:
        self.faults.append(Fault(self._hub_id, table, number, message))


def _entry_of(hub_id: str, stored: StoredEntry) -> AuditEntry | None:
    match stored:
        case StoredEntry(int(number), str(organisation_id), at, str(actor), str(action), str(target), str(detail)):
            if at is None:
                return None
            return AuditEntry(
                hub_id=hub_id,
                number=number,
                organisation_id=organisation_id,
                at=at,
                actor=actor,
                action=action,
                target=target,
                detail=detail,
            )
    return None


def _place_of(hub_id: str, stored: StoredCheckpoint) -> SignedPlace | None:
    match stored:
        case StoredCheckpoint(int(number), str(hash_), at, int(previous), str(key_id), str(signature)):
            if at is None or at.microsecond % 1000:
                return None
            return SignedPlace(
                hub_id=hub_id,
                number=number,
                hash=hash_,
                at=at,
                previous=previous,
                key_id=key_id,
                signature=signature,
            )
    return None


def _is_late(checkpoint: Checkpoint, revoked: Revoked) -> bool:
    """Tell whether it says itself that its key had been revoked before."""
    revoked_at = revoked.get(checkpoint.key_id)
    return revoked_at is not None and checkpoint.at_ms >= milliseconds(revoked_at + REVOCATION_HEARD)


def _is_signed(checkpoint: Checkpoint, audit_keys: AuditKeys) -> bool:
    """Tell whether the signature is a key's of this hub, and written in the one way there is."""
    raw = audit_keys.get(checkpoint.key_id)
    if raw is None:
        return False
    try:
        signature = base64.b64decode(checkpoint.signature, validate=True)
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, statement_of(checkpoint))
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return base64.b64encode(signature).decode() == checkpoint.signature
