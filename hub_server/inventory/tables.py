"""What a machine is made of and what is installed on it, a row a section."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class AgentInventoryRow(SQLModel, table=True):
    """`hash` is what the agent said of `body`; it is asked for a section again only when it names another."""

    __tablename__ = "agent_inventory"

    agent_id: str = Field(primary_key=True, max_length=64, foreign_key="agents.id", ondelete="CASCADE")
    section: str = Field(primary_key=True, max_length=32)
    organisation_id: str = Field(max_length=64, index=True)
    hash: str = Field(max_length=128)
    stored_at: datetime = Field(sa_type=UtcDateTime)
    body: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
