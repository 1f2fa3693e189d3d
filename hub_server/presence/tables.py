"""Presence as it outlives the hub's process."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class PresenceRow(SQLModel, table=True):
    __tablename__ = "agent_presence"

    agent_id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(max_length=64, index=True)
    hostname: str = Field(max_length=128)
    connected: bool
    last_seen_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    reason: str = Field(max_length=64)
