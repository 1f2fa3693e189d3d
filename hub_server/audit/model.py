"""An audit entry and the hash that chains it to the one before; a place of the chain, signed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct

from protocol.envelope import checkpoint_statement
from protocol.frames import Checkpoint

NOTHING_BEFORE: Final = ""
CHAIN_BEFORE: Final = "before"
"""The chain of entries from before there were chains. No hub adds to it."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AuditEntry(Struct, frozen=True, kw_only=True):
    """`detail`: JSON as it was written. `number` counts from 1 within the chain of `hub_id`."""

    hub_id: str
    number: int
    organisation_id: str
    at: datetime
    actor: str
    action: str
    target: str
    detail: str

    def hash_after(self, previous: str) -> str:
        """Return the SHA-256 in hexadecimal over this entry and the hash of the one before it."""
        microseconds = (self.at - _EPOCH) // timedelta(microseconds=1)
        covered = (
            previous,
            self.hub_id,
            self.number,
            self.organisation_id,
            microseconds,
            self.actor,
            self.action,
            self.target,
            self.detail,
        )
        return hashlib.sha256(msgspec.json.encode(covered)).hexdigest()


class SignedPlace(Struct, frozen=True, kw_only=True):
    """A checkpoint as the hub keeps it. `previous`: the number of the checkpoint before, or 0; `at` in whole ms."""

    hub_id: str
    number: int
    hash: str
    at: datetime
    previous: int
    key_id: str
    signature: str

    def as_checkpoint(self) -> Checkpoint:
        """Return it as agents keep it."""
        return Checkpoint(
            hub_id=self.hub_id,
            number=self.number,
            hash=self.hash,
            at_ms=(self.at - _EPOCH) // timedelta(milliseconds=1),
            key_id=self.key_id,
            signature=self.signature,
        )


def statement_of(checkpoint: Checkpoint) -> bytes:
    """Return the bytes that the checkpoint's signature covers."""
    return checkpoint_statement(checkpoint.hub_id, checkpoint.number, checkpoint.hash, checkpoint.at_ms)
