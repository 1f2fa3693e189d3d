"""What people and the hub did, written in the transaction of the deed and chained by hashes."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class AuditRow(SQLModel, table=True):
    """One deed. `(hub_id, number)` counts without a gap; `hash` covers the row and the hash before it."""

    __tablename__ = "audit_entries"

    hub_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    organisation_id: str = Field(index=True, max_length=64)
    at: datetime = Field(sa_type=UtcDateTime, index=True)
    actor: str = Field(max_length=160)
    action: str = Field(max_length=64)
    target: str = Field(max_length=160)
    detail: str
    """JSON with sorted keys: exactly the bytes that were hashed."""
    hash: str = Field(max_length=64)


class AuditHeadRow(SQLModel, table=True):
    """The end of a hub's chain; locked while a row is added."""

    __tablename__ = "audit_heads"

    hub_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(sa_type=BigInteger)
    hash: str = Field(max_length=64)


class AuditCheckpointRow(SQLModel, table=True):
    """A place of a chain, signed by the hub's audit key."""

    __tablename__ = "audit_checkpoints"

    hub_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    hash: str = Field(max_length=64)
    at: datetime = Field(sa_type=UtcDateTime)
    key_id: str = Field(max_length=64)
    signature: str
