"""Samples, what was received of each stream, and what agents reported (seed 004, "AgentMetric").

`agent_metrics` has no foreign key: it is written in bulk, and a deleted agent's samples are deleted with it.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table


class MetricRow(SQLModel, table=True):
    """One sample. `data` is the JSON text of its metricData."""

    __tablename__ = "agent_metrics"
    __table_args__ = (
        Index("ix_agent_metrics_series", "agent_id", "metric_type", "ts_ms"),
        Index("ix_agent_metrics_ts_ms", "ts_ms"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer, "sqlite"))
    organisation_id: str = Field(max_length=64)
    agent_id: str = Field(max_length=64)
    metric_type: str = Field(max_length=128)
    ts_ms: int = Field(sa_type=BigInteger)
    data: str


class ReceivedRangesRow(SQLModel, table=True):
    """The sequences of a stream that are stored: committed with their samples, so that none is stored twice.

    Epochs are random; `updated_at_ms` says which of a stream is the one in use.
    """

    __tablename__ = "received_ranges"

    agent_id: str = Field(primary_key=True, max_length=64)
    stream: str = Field(primary_key=True, max_length=32)
    epoch: int = Field(primary_key=True, sa_type=BigInteger)
    organisation_id: str = Field(max_length=64)
    ranges: list[list[int]] = Field(default_factory=list, sa_type=JSON)
    updated_at_ms: int = Field(sa_type=BigInteger)


class AgentReportRow(SQLModel, table=True):
    __tablename__ = "agent_reports"

    agent_id: str = Field(primary_key=True, max_length=64)
    epoch: int = Field(primary_key=True, sa_type=BigInteger)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    organisation_id: str = Field(max_length=64)
    ts_ms: int = Field(sa_type=BigInteger)
    kind: str = Field(max_length=128)
    data: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
