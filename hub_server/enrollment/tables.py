"""Enrollment tokens and who used them, organisation keys, and machines that wait to be let in."""

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
    needs_approval: bool = False
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


class OrganisationKeyRow(SQLModel, table=True):
    """`itsk_…`: lets machines register by seed 004's route."""

    __tablename__ = "organisation_keys"

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(foreign_key="organisations.id", ondelete="CASCADE", index=True)
    name: str = Field(max_length=128)
    secret_sha256: bytes
    site: str = Field(default="", max_length=128)
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    used: int = 0
    created_at: datetime = Field(sa_type=UtcDateTime)
    created_by: str = Field(max_length=160)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class OrganisationKeyUseRow(SQLModel, table=True):
    """As `enrollment_uses`, of organisation keys."""

    __tablename__ = "organisation_key_uses"

    key_id: str = Field(primary_key=True, foreign_key="organisation_keys.id", ondelete="CASCADE")
    public_key_sha256: bytes = Field(primary_key=True)
    organisation_id: str = Field(max_length=64)
    agent_id: str = Field(max_length=64)
    certificate_serial: str = Field(max_length=64)
    used_at: datetime = Field(sa_type=UtcDateTime)


class ApprovalRow(SQLModel, table=True):
    """A machine that proved what it could and waits for a person. One a key."""

    __tablename__ = "approvals"

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(foreign_key="organisations.id", ondelete="CASCADE", index=True)
    kind: str = Field(max_length=16)
    state: str = Field(default="pending", max_length=16, index=True)
    token_id: str | None = Field(default=None, foreign_key="enrollment_tokens.id", ondelete="CASCADE")
    agent_id: str = Field(max_length=64)
    """Of a recovery: the agent that asks. Of an enrollment: the row's own id until the machine is in."""
    public_key_sha256: bytes = Field(unique=True)
    csr_pem: str
    hostname: str = Field(max_length=128)
    os: str = Field(default="", max_length=128)
    address: str = Field(max_length=64)
    site: str = Field(default="", max_length=128)
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    requested_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    decided_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    decided_by: str | None = Field(default=None, max_length=160)
    certificate_serial: str | None = Field(default=None, max_length=64)
