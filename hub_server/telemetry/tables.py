"""Samples, what was received of each stream, and what agents reported (seed 004, "AgentMetric").

Samples have no foreign key: they are written in bulk, and a deleted agent's samples are deleted with it.
"""

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Column, Index, LargeBinary, String, Table
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table


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
    __table_args__ = (
        Index("ix_agent_reports_newest", "organisation_id", "ts_ms"),
        Index("ix_agent_reports_ts_ms", "ts_ms"),
    )

    agent_id: str = Field(primary_key=True, max_length=64)
    epoch: int = Field(primary_key=True, sa_type=BigInteger)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    organisation_id: str = Field(max_length=64)
    ts_ms: int = Field(sa_type=BigInteger)
    kind: str = Field(max_length=128)
    data: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


POSTGRESQL_ONLY: Final = {"engine": "postgresql"}
"""On SQLite samples are in files of their own."""


def _of_series(*, primary_key: bool) -> list[Column[str]]:
    return [
        Column("agent_id", String(64), primary_key=primary_key, nullable=False),
        Column("metric_type", String(128), primary_key=primary_key, nullable=False),
        Column("organisation_id", String(64), nullable=False),
    ]


def _rollups(resolution: str) -> Table:
    """A row a series and period. `until_ms` is the time of the newest sample in it, `body` as rollups.encoded."""
    return Table(
        f"metric_rollups_{resolution}",
        SQLModel.metadata,
        *_of_series(primary_key=True),
        Column("from_ms", BigInteger, primary_key=True, autoincrement=False),
        Column("until_ms", BigInteger, nullable=False),
        Column("body", LargeBinary, nullable=False),
        postgresql_partition_by="RANGE (from_ms)",
        info=POSTGRESQL_ONLY,
    )


SAMPLES: Final = Table(
    "metric_samples",
    SQLModel.metadata,
    *_of_series(primary_key=False),
    Column("ts_ms", BigInteger, nullable=False),
    Column("data", String, nullable=False),
    Index("ix_metric_samples_series", "agent_id", "metric_type", "ts_ms"),
    postgresql_partition_by="RANGE (ts_ms)",
    info=POSTGRESQL_ONLY,
)
"""Samples that are not packed yet; `data` is the JSON text of metricData."""

CHUNKS: Final = Table(
    "metric_chunks",
    SQLModel.metadata,
    *_of_series(primary_key=True),
    Column("from_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    postgresql_partition_by="RANGE (from_ms)",
    info=POSTGRESQL_ONLY,
)
"""The packed samples of a series and hour; `body` as packing.packed."""

NEWEST: Final = Table(
    "metric_newest",
    SQLModel.metadata,
    *_of_series(primary_key=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("data", String, nullable=False),
    info=POSTGRESQL_ONLY,
)
"""The newest packed sample of each series."""

ROLLUPS_1M: Final = _rollups("1m")
ROLLUPS_5M: Final = _rollups("5m")
ROLLUPS_1H: Final = _rollups("1h")
