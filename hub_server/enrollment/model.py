"""The words of joining: tokens as they are kept, and what a use of one left behind."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from protocol.joining import TokenView


class StoredToken(Struct, frozen=True, kw_only=True):
    """An enrollment token without its secret."""

    id: str
    organisation_id: str
    secret_sha256: bytes
    site: str
    tags: list[str]
    uses: int
    used: int
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
            approval=False,
            created_at=self.created_at,
            created_by=self.created_by,
            expires_at=self.expires_at,
            revoked_at=self.revoked_at,
        )


class TokenUse(Struct, frozen=True, kw_only=True):
    token_id: str
    public_key_sha256: bytes
    organisation_id: str
    agent_id: str
    certificate_serial: str
    used_at: datetime
