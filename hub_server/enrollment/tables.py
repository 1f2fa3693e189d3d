"""Enrollment tokens and who used them."""

from datetime import datetime

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class EnrollmentTokenRow(SQLModel, table=True):
    __tablename__ = "enrollment_tokens"

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(foreign_key="organisations.id", ondelete="CASCADE", index=True)
    secret_sha256: bytes
    site: str = Field(default="", max_length=128)
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    uses: int
    used: int = 0
    created_at: datetime = Field(sa_type=UtcDateTime)
    created_by: str = Field(max_length=160)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class EnrollmentUseRow(SQLModel, table=True):
    """Lets a lost answer be asked for again: the same token with the same key gives the same certificate."""

    __tablename__ = "enrollment_uses"

    token_id: str = Field(primary_key=True, foreign_key="enrollment_tokens.id", ondelete="CASCADE")
    public_key_sha256: bytes = Field(primary_key=True)
    organisation_id: str = Field(max_length=64)
    agent_id: str = Field(max_length=64)
    certificate_serial: str = Field(max_length=64)
    used_at: datetime = Field(sa_type=UtcDateTime)
