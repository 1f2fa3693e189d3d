"""Organisations, people, their memberships, second factors and sign-ins, and the API keys of scripts."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class OrganisationRow(SQLModel, table=True):
    __tablename__ = "organisations"

    id: str = Field(primary_key=True, max_length=64)
    name: str = Field(unique=True, max_length=128)
    created_at: datetime = Field(sa_type=UtcDateTime)
    max_agents: int | None = None
    max_users: int | None = None
    max_open_commands: int | None = None


class UserRow(SQLModel, table=True):
    __tablename__ = "users"

    id: str = Field(primary_key=True, max_length=64)
    username: str = Field(unique=True, max_length=128)
    password_hash: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    locked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    password_changed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    totp_sealed: bytes | None = None
    """The authenticator's secret, sealed by the hub's secrets key."""
    totp_confirmed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    totp_last_step: int = Field(default=0, sa_type=BigInteger)
    """The newest time step whose code was used: none is good twice."""


class RecoveryCodeRow(SQLModel, table=True):
    __tablename__ = "recovery_codes"

    user_id: str = Field(primary_key=True, foreign_key="users.id", ondelete="CASCADE")
    code_sha256: bytes = Field(primary_key=True)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class MembershipRow(SQLModel, table=True):
    __tablename__ = "memberships"

    user_id: str = Field(primary_key=True, foreign_key="users.id", ondelete="CASCADE")
    organisation_id: str = Field(primary_key=True, foreign_key="organisations.id", ondelete="CASCADE")
    role: str = Field(max_length=32)


class RefreshTokenRow(SQLModel, table=True):
    """One link of a chain: each refresh burns a token and makes the next of its family."""

    __tablename__ = "refresh_tokens"

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(foreign_key="organisations.id", ondelete="CASCADE")
    user_id: str = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    family_id: str = Field(max_length=64, index=True)
    secret_sha256: bytes
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    signed_in_at: datetime = Field(sa_type=UtcDateTime)
    """When the family began."""
    has_second_factor: bool = False
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ApiKeyRow(SQLModel, table=True):
    """What a script connects with."""

    __tablename__ = "api_keys"

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(foreign_key="organisations.id", ondelete="CASCADE", index=True)
    user_id: str = Field(foreign_key="users.id", ondelete="CASCADE", index=True)
    """Its maker: the key ends with their lock or removal, and is worth no more than their role."""
    name: str = Field(max_length=128)
    role: str = Field(max_length=32)
    secret_sha256: bytes
    created_at: datetime = Field(sa_type=UtcDateTime)
    created_by: str = Field(max_length=160)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
