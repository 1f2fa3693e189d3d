"""Scripts once per organisation; what a command's process wrote, when it must end, and when what is old goes."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCOPE = "(select nullif(current_setting('jtnt.organisation', true), ''))"
WITHIN = f"organisation_id = {SCOPE} or {SCOPE} = '*'"


def upgrade() -> None:
    op.create_table(
        "scripts",
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("organisation_id", "sha256", name=op.f("pk_scripts")),
    )
    op.create_index("ix_scripts_used_at", "scripts", ["used_at"])
    op.add_column("agent_commands", sa.Column("script_sha256", sa.String(length=64), nullable=True))
    op.add_column("agent_commands", sa.Column("timeout_sec", sa.Float(), nullable=True))
    op.add_column("agent_commands", sa.Column("output_bytes", sa.JSON(), server_default="{}", nullable=False))
    op.create_index("ix_agent_commands_finished_at", "agent_commands", ["finished_at"])
    op.create_index("ix_agent_commands_newest", "agent_commands", ["organisation_id", "created_at"])
    op.create_index("ix_agent_commands_script", "agent_commands", ["organisation_id", "script_sha256"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("alter table scripts enable row level security")
        op.execute("alter table scripts force row level security")
        op.execute(f"create policy within_organisation on scripts using ({WITHIN}) with check ({WITHIN})")


def downgrade() -> None:
    raise NotImplementedError("restore the backup from before the update")
