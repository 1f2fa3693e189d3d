"""Policies of organisations and what their checks found."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCOPE = "(select nullif(current_setting('jtnt.organisation', true), ''))"
WITHIN = f"organisation_id = {SCOPE} or {SCOPE} = '*'"


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("terms", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=160), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.String(length=160), nullable=False),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name=op.f("fk_policies_organisation_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policies")),
        sa.UniqueConstraint("organisation_id", "name", name="uq_policies_name"),
    )
    op.create_index("ix_policies_organisation_id", "policies", ["organisation_id"])
    op.create_table(
        "compliance_results",
        sa.Column("agent_id", sa.String(length=64), nullable=False),
        sa.Column("policy_id", sa.String(length=64), nullable=False),
        sa.Column("check_name", sa.String(length=128), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("found", sa.String(length=256), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_compliance_results_agent_id_agents"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["policies.id"], name=op.f("fk_compliance_results_policy_id_policies"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("agent_id", "policy_id", "check_name", name=op.f("pk_compliance_results")),
    )
    op.create_index("ix_compliance_results_policy_id", "compliance_results", ["policy_id"])
    op.create_index("ix_compliance_results_state", "compliance_results", ["organisation_id", "state"])
    if op.get_bind().dialect.name == "postgresql":
        for table in ("policies", "compliance_results"):
            op.execute(f"alter table {table} enable row level security")
            op.execute(f"alter table {table} force row level security")
            op.execute(f"create policy within_organisation on {table} using ({WITHIN}) with check ({WITHIN})")


def downgrade() -> None:
    raise NotImplementedError("restore the backup from before the update")
