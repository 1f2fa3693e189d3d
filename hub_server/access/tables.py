"""People, their memberships, and the refresh tokens of their sign-ins."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class OrganisationRow(SQLModel, table=True):
    __tablename__ = "organisations"

    id: str = Field(primary_key=True, max_length=64)
    name: str = Field(unique=True, max_length=128)
    created_at: datetime = Field(sa_type=UtcDateTime)


class UserRow(SQLModel, table=True):
    __tablename__ = "users"

    id: str = Field(primary_key=True, max_length=64)
    username: str = Field(unique=True, max_length=128)
    password_hash: str
    created_at: datetime = Field(sa_type=UtcDateTime)
    locked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


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
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
