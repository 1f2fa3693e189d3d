"""Policies, and what their checks found on each machine."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class PolicyRow(SQLModel, table=True):
    """`terms`: as people gave it. `version` rises with every change; the audit keeps what it was before."""

    __tablename__ = "policies"
    __table_args__ = (UniqueConstraint("organisation_id", "name", name="uq_policies_name"),)

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(max_length=64, foreign_key="organisations.id", ondelete="CASCADE", index=True)
    name: str = Field(max_length=128)
    terms: dict[str, Any] = Field(sa_type=JSON)
    version: int
    created_at: datetime = Field(sa_type=UtcDateTime)
    created_by: str = Field(max_length=160)
    changed_at: datetime = Field(sa_type=UtcDateTime)
    changed_by: str = Field(max_length=160)


class ComplianceRow(SQLModel, table=True):
    """The newest result of one check on one machine, written when it changes.

    `judged_by`: the hub that the machine was connected to; empty where none that judged it could know better.
    """

    __tablename__ = "compliance_results"
    __table_args__ = (Index("ix_compliance_results_state", "organisation_id", "state"),)

    agent_id: str = Field(primary_key=True, max_length=64, foreign_key="agents.id", ondelete="CASCADE")
    policy_id: str = Field(primary_key=True, max_length=64, foreign_key="policies.id", ondelete="CASCADE", index=True)
    check_name: str = Field(primary_key=True, max_length=128)
    organisation_id: str = Field(max_length=64)
    severity: str = Field(max_length=16)
    state: str = Field(max_length=16)
    found: str | None = Field(default=None, max_length=256)
    since: datetime = Field(sa_type=UtcDateTime)
    judged_by: str = Field(default="", max_length=64, sa_column_kwargs={"server_default": text("''")})
