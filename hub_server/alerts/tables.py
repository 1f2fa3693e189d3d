"""Alerts (seed 004, "AgentAlert"): one open alert per agent and key, by a unique index."""

from datetime import datetime

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class AlertRow(SQLModel, table=True):
    """`holding`: the condition is still true.

    A person may resolve an alert that holds; it is not raised again until it ceased.
    """

    __tablename__ = "agent_alerts"
    __table_args__ = (
        Index(
            "uq_agent_alerts_open",
            "organisation_id",
            "agent_id",
            "key",
            unique=True,
            sqlite_where=text("state = 'OPEN'"),
            postgresql_where=text("state = 'OPEN'"),
        ),
    )

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(index=True, max_length=64)
    agent_id: str = Field(foreign_key="agents.id", ondelete="CASCADE", index=True)
    key: str = Field(max_length=128)
    type: str = Field(max_length=64)
    severity: str = Field(max_length=16)
    message: str = Field(max_length=4096)
    state: str = Field(max_length=16)
    holding: bool
    opened_at: datetime = Field(sa_type=UtcDateTime)
    changed_at: datetime = Field(sa_type=UtcDateTime)
    resolved_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    resolved_by: str | None = Field(default=None, max_length=160)
