"""What people and the hub did, written in the transaction of the deed."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class AuditRow(SQLModel, table=True):
    __tablename__ = "audit_entries"

    position: int | None = Field(default=None, primary_key=True)
    organisation_id: str = Field(index=True, max_length=64)
    at: datetime = Field(sa_type=UtcDateTime)
    actor: str = Field(max_length=160)
    action: str = Field(max_length=64)
    target: str = Field(max_length=160)
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
