"""The words of joining: tokens and keys as they are kept, who used them, and who waits to be let in."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import Struct

from protocol.enumerations import ApprovalKind, ApprovalState
from protocol.joining import ApprovalView, OrganisationKeyView, TokenView

UNDECIDED: Final = frozenset({ApprovalState.PENDING, ApprovalState.APPROVED})
"""States that time ends, as long as no certificate was fetched."""


class StoredToken(Struct, frozen=True, kw_only=True):
    """An enrollment token without its secret."""

    id: str
    organisation_id: str
    secret_sha256: bytes
    site: str
    tags: list[str]
    uses: int
    used: int
    needs_approval: bool
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None

    def refusal_at(self, now: datetime) -> str | None:
        """Return why nobody can join with the token now, None when somebody can."""
        if self.revoked_at is not None:
            return "this enrollment token was revoked; ask for a new one"
        if self.used >= self.uses:
            return "this enrollment token was used already; ask for a new one"
        if now >= self.expires_at:
            return f"this enrollment token expired at {self.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new one"
        return None

    def as_view(self) -> TokenView:
        return TokenView(
            id=self.id,
            site=self.site,
            tags=self.tags,
            uses=self.uses,
            used=self.used,
            approval=self.needs_approval,
            created_at=self.created_at,
            created_by=self.created_by,
            expires_at=self.expires_at,
            revoked_at=self.revoked_at,
        )


class StoredKey(Struct, frozen=True, kw_only=True):
    """An organisation key without its secret."""

    id: str
    organisation_id: str
    name: str
    secret_sha256: bytes
    site: str
    tags: list[str]
    used: int
    created_at: datetime
    created_by: str
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None

    def refusal_at(self, now: datetime) -> str | None:
        """Return why nobody can register with the key now, None when somebody can."""
        if self.revoked_at is not None:
            return "this organisation key was revoked; ask for a new one"
        if now >= self.expires_at:
            return f"this organisation key expired at {self.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new one"
        return None

    def as_view(self) -> OrganisationKeyView:
        return OrganisationKeyView(
            id=self.id,
            name=self.name,
            site=self.site,
            tags=self.tags,
            used=self.used,
            created_at=self.created_at,
            created_by=self.created_by,
            expires_at=self.expires_at,
            last_used_at=self.last_used_at,
            revoked_at=self.revoked_at,
        )


class CredentialUse(Struct, frozen=True, kw_only=True):
    """What one machine got for a token or an organisation key."""

    credential_id: str
    public_key_sha256: bytes
    organisation_id: str
    agent_id: str
    certificate_serial: str
    used_at: datetime


class Approval(Struct, frozen=True, kw_only=True):
    """A machine in the queue. `state` is as it was last written: `state_at` says how it stands.

    `agent_id`: of a recovery, the agent that asks; of an enrollment, the name under which it waits, and the agent's own
    once it is in. `certificate_serial`: what the machine fetched, None until then.
    """

    id: str
    organisation_id: str
    kind: ApprovalKind
    state: ApprovalState
    token_id: str | None
    agent_id: str
    public_key_sha256: bytes
    csr_pem: str
    hostname: str
    os: str
    address: str
    site: str
    tags: list[str]
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None = None
    decided_by: str | None = None
    certificate_serial: str | None = None

    def state_at(self, now: datetime) -> ApprovalState:
        if self.state in UNDECIDED and self.certificate_serial is None and now >= self.expires_at:
            return ApprovalState.EXPIRED
        return self.state

    def asks_for(self, other: Approval) -> bool:
        """Tell whether both were asked for by the same right: one token, or one agent's old key."""
        if self.kind is not other.kind:
            return False
        return self.token_id == other.token_id if self.kind is ApprovalKind.ENROLL else self.agent_id == other.agent_id

    def as_view(self, now: datetime) -> ApprovalView:
        return ApprovalView(
            id=self.id,
            kind=self.kind,
            state=self.state_at(now),
            agent_id=self.agent_id,
            hostname=self.hostname,
            os=self.os,
            address=self.address,
            fingerprint=self.public_key_sha256.hex(),
            site=self.site,
            tags=self.tags,
            requested_at=self.requested_at,
            expires_at=self.expires_at,
            decided_at=self.decided_at,
            decided_by=self.decided_by,
        )
