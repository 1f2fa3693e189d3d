"""Samples by day, packed and rolled up; inventory; reports by time.

PostgreSQL: samples move into partitions here, in the one transaction of the upgrade. SQLite: they go to files beside
the database, which the hub fills when it opens them; the rows wait in their old table.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCOPE = "(select nullif(current_setting('jtnt.organisation', true), ''))"
WITHIN = f"organisation_id = {SCOPE} or {SCOPE} = '*'"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAYS_MAX = 2_932_864
END_MS = DAYS_MAX * 86_400_000
"""The year 9999 has ended: samples of such times are of no use to anybody."""
ROLLUPS = ("metric_rollups_1m", "metric_rollups_5m", "metric_rollups_1h")


def upgrade() -> None:
    op.create_table(
        "agent_inventory",
        sa.Column("agent_id", sa.String(length=64), nullable=False),
        sa.Column("section", sa.String(length=32), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=128), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_agent_inventory_agent_id_agents"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("agent_id", "section", name=op.f("pk_agent_inventory")),
    )
    op.create_index("ix_agent_inventory_organisation_id", "agent_inventory", ["organisation_id"])
    op.create_index("ix_agent_reports_newest", "agent_reports", ["organisation_id", "ts_ms"])
    op.create_index("ix_agent_reports_ts_ms", "agent_reports", ["ts_ms"])
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        _create_samples()
        _create_packed()
        for table in ("agent_inventory", "metric_samples", "metric_chunks", "metric_newest", *ROLLUPS):
            _protect(table)
        _move_samples(connection)
        op.drop_table("agent_metrics")
        return
    connection.execute(sa.text("delete from agent_metrics where ts_ms < 0 or ts_ms >= :end_ms"), {"end_ms": END_MS})
    if connection.execute(sa.text("select 1 from agent_metrics limit 1")).first() is None:
        op.drop_table("agent_metrics")


def downgrade() -> None:
    raise NotImplementedError("restore the backup from before the update")


def _series() -> list[sa.Column[str]]:
    return [
        sa.Column("agent_id", sa.String(length=64), nullable=False),
        sa.Column("metric_type", sa.String(length=128), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
    ]


def _create_samples() -> None:
    op.create_table(
        "metric_samples",
        *_series(),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.String(), nullable=False),
        postgresql_partition_by="RANGE (ts_ms)",
    )
    op.create_index("ix_metric_samples_series", "metric_samples", ["agent_id", "metric_type", "ts_ms"])


def _create_packed() -> None:
    op.create_table(
        "metric_chunks",
        *_series(),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "metric_type", "from_ms", name="pk_metric_chunks"),
        postgresql_partition_by="RANGE (from_ms)",
    )
    op.create_table(
        "metric_newest",
        *_series(),
        sa.Column("ts_ms", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "metric_type", name="pk_metric_newest"),
    )
    for table in ROLLUPS:
        op.create_table(
            table,
            *_series(),
            sa.Column("from_ms", sa.BigInteger(), nullable=False),
            sa.Column("until_ms", sa.BigInteger(), nullable=False),
            sa.Column("body", sa.LargeBinary(), nullable=False),
            sa.PrimaryKeyConstraint("agent_id", "metric_type", "from_ms", name=f"pk_{table}"),
            postgresql_partition_by="RANGE (from_ms)",
        )
    for table in ("metric_chunks", *ROLLUPS):
        op.execute(f"alter table {table} alter column body set storage external")  # it is compressed already


def _move_samples(connection: sa.Connection) -> None:
    days = connection.execute(sa.text("select distinct ts_ms / 86400000 from agent_metrics where ts_ms >= 0"))
    for day in sorted(days.scalars()):
        if day < DAYS_MAX:
            _create_day(day)
    connection.execute(
        sa.text(
            "insert into metric_samples (agent_id, metric_type, organisation_id, ts_ms, data)"
            " select agent_id, metric_type, organisation_id, ts_ms, data from agent_metrics"
            " where ts_ms >= 0 and ts_ms < :end_ms order by id"
        ),
        {"end_ms": END_MS},
    )


def _create_day(day: int) -> None:
    name = f"metric_samples_{EPOCH + timedelta(days=day):%Y%m%d}"
    span = f"from ({day * 86_400_000}) to ({(day + 1) * 86_400_000})"
    op.execute(f"create table {name} partition of metric_samples for values {span}")
    _protect(name)


def _protect(table: str) -> None:
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy within_organisation on {table} using ({WITHIN}) with check ({WITHIN})")
