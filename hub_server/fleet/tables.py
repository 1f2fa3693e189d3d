"""The agents of an organisation (seed 004, "Agent")."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class AgentRow(SQLModel, table=True):
    __tablename__ = "agents"

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(foreign_key="organisations.id", ondelete="CASCADE", index=True)
    hostname: str = Field(max_length=128)
    name: str = Field(max_length=128)
    site: str = Field(default="", max_length=128)
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    os_type: str = Field(max_length=128)
    os_version: str = Field(default="", max_length=4096)
    arch: str = Field(default="", max_length=4096)
    cpu_count: int = 0
    memory_total_bytes: int = Field(default=0, sa_type=BigInteger)
    ip_addresses: list[str] = Field(default_factory=list, sa_type=JSON)
    agent_version: str = Field(max_length=128)
    boot_id: str = Field(default="", max_length=128)
    config: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    thresholds: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    applied_config_hash: str = Field(default="", max_length=128)
    enrolled_at: datetime = Field(sa_type=UtcDateTime)
    trust: str = Field(default="trusted", max_length=16)
    trust_reason: str = Field(default="", max_length=256)
