"""When a hub stored the last change of a command, why a person wanted it, and who judged a result of a check."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

IS_OPEN = sa.text("finished_at is null")
LONG_AGO = sa.text("'1970-01-01 00:00:00.000000'")


def upgrade() -> None:
    op.add_column(
        "agent_commands",
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=LONG_AGO, nullable=False),
    )
    op.execute("update agent_commands set changed_at = coalesce(finished_at, started_at, sent_at, created_at)")
    op.add_column("agent_commands", sa.Column("purpose", sa.String(), server_default=sa.text("''"), nullable=False))
    op.create_index("ix_agent_commands_changed", "agent_commands", ["changed_at", "id"])
    op.create_index(
        "ix_agent_commands_open",
        "agent_commands",
        ["organisation_id", "id"],
        sqlite_where=IS_OPEN,
        postgresql_where=IS_OPEN,
    )
    op.drop_index("ix_agent_commands_status", "agent_commands")
    op.drop_index("ix_agent_commands_finished_at", "agent_commands")
    op.add_column(
        "compliance_results",
        sa.Column("judged_by", sa.String(length=64), server_default=sa.text("''"), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup from before the update")
