"""What people and the hub did, written in the transaction of the deed and chained by hashes."""

from datetime import datetime

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class AuditRow(SQLModel, table=True):
    """One deed. `(hub_id, number)` counts without a gap; `hash` covers the row and the hash before it."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_organisation_at", "organisation_id", "at"),)

    hub_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    organisation_id: str = Field(max_length=64)
    """`*` for what the hub does for all of them."""
    at: datetime = Field(sa_type=UtcDateTime)
    actor: str = Field(max_length=160)
    action: str = Field(max_length=64)
    target: str = Field(max_length=160)
    detail: str
    """JSON with sorted keys: exactly the bytes that were hashed."""
    hash: str = Field(max_length=64)


class AuditHeadRow(SQLModel, table=True):
    """The end of a hub's chain; locked while a row is added. `checkpoint`: the newest one's number, 0 before any."""

    __tablename__ = "audit_heads"

    hub_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(sa_type=BigInteger)
    hash: str = Field(max_length=64)
    checkpoint: int = Field(default=0, sa_type=BigInteger)


class AuditCheckpointRow(SQLModel, table=True):
    """A place of a chain, signed by the hub's audit key. `previous`: the number of the checkpoint before, or 0."""

    __tablename__ = "audit_checkpoints"

    hub_id: str = Field(primary_key=True, max_length=64)
    number: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    hash: str = Field(max_length=64)
    at: datetime = Field(sa_type=UtcDateTime)
    previous: int = Field(sa_type=BigInteger)
    key_id: str = Field(max_length=64)
    signature: str
