"""Trust: authorities in the database, second factors, API and organisation keys, approvals, a chained audit."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import orjson
import sqlalchemy as sa
from alembic import op

CHAIN = "before"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "audit_checkpoints",
        sa.Column("hub_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("previous", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("hub_id", "number", name=op.f("pk_audit_checkpoints")),
    )
    op.create_table(
        "audit_heads",
        sa.Column("hub_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("checkpoint", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hub_id", name=op.f("pk_audit_heads")),
    )
    op.create_table(
        "authorities",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("use", sa.String(length=16), nullable=False),
        sa.Column("certificate_pem", sa.String(), nullable=True),
        sa.Column("public_key", sa.String(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorities")),
    )
    with op.batch_alter_table("authorities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_authorities_use"), ["use"], unique=False)

    op.create_table(
        "trust_documents",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("signatures", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_trust_documents")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("organisation_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=160), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name=op.f("fk_api_keys_organisation_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    with op.batch_alter_table("api_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_keys_organisation_id"), ["organisation_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_api_keys_user_id"), ["user_id"], unique=False)

    op.create_table(
        "organisation_keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("organisation_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=160), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name=op.f("fk_organisation_keys_organisation_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisation_keys")),
    )
    with op.batch_alter_table("organisation_keys", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_organisation_keys_organisation_id"), ["organisation_id"], unique=False)

    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("code_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_recovery_codes_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "code_sha256", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "organisation_key_uses",
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("public_key_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
        sa.Column("agent_id", sa.String(length=64), nullable=False),
        sa.Column("certificate_serial", sa.String(length=64), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["organisation_keys.id"],
            name=op.f("fk_organisation_key_uses_key_id_organisation_keys"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("key_id", "public_key_sha256", name=op.f("pk_organisation_key_uses")),
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("organisation_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("token_id", sa.String(), nullable=True),
        sa.Column("agent_id", sa.String(length=64), nullable=False),
        sa.Column("public_key_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("csr_pem", sa.String(), nullable=False),
        sa.Column("hostname", sa.String(length=128), nullable=False),
        sa.Column("os", sa.String(length=128), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("site", sa.String(length=128), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(length=160), nullable=True),
        sa.Column("certificate_serial", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisations.id"],
            name=op.f("fk_approvals_organisation_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["token_id"],
            ["enrollment_tokens.id"],
            name=op.f("fk_approvals_token_id_enrollment_tokens"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approvals")),
        sa.UniqueConstraint("public_key_sha256", name=op.f("uq_approvals_public_key_sha256")),
    )
    with op.batch_alter_table("approvals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_approvals_organisation_id"), ["organisation_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_approvals_state"), ["state"], unique=False)

    op.create_table(
        "clone_suspicions",
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("older_address", sa.String(length=64), nullable=False),
        sa.Column("newer_address", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agents.id"], name=op.f("fk_clone_suspicions_agent_id_agents"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_clone_suspicions")),
    )
    with op.batch_alter_table("clone_suspicions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_clone_suspicions_agent_id"), ["agent_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_clone_suspicions_organisation_id"), ["organisation_id"], unique=False)

    with op.batch_alter_table("agents", schema=None) as batch_op:
        batch_op.add_column(sa.Column("trust", sa.String(length=16), nullable=False, server_default="trusted"))
        batch_op.add_column(sa.Column("trust_reason", sa.String(length=256), nullable=False, server_default=""))

    _chain_the_audit()
    with op.batch_alter_table("certificates", schema=None) as batch_op:
        batch_op.drop_constraint("fk_certificates_agent_id_agents", type_="foreignkey")
        batch_op.alter_column(
            "agent_id", existing_type=sa.String(), type_=sa.String(length=64), existing_nullable=False
        )
        batch_op.add_column(sa.Column("issuer", sa.String(length=64), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("replaces", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("superseded_at", sa.DateTime(timezone=True), nullable=True))

    with op.batch_alter_table("enrollment_tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("needs_approval", sa.Boolean(), nullable=False, server_default=sa.false()))

    with op.batch_alter_table("organisations", schema=None) as batch_op:
        batch_op.add_column(sa.Column("max_agents", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("max_users", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("max_open_commands", sa.Integer(), nullable=True))

    with op.batch_alter_table("refresh_tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("has_second_factor", sa.Boolean(), nullable=False, server_default=sa.false()))

    with op.batch_alter_table("users", schema=None) as batch_op:
        batch_op.add_column(sa.Column("password_changed_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("totp_sealed", sa.LargeBinary(), nullable=True))
        batch_op.add_column(sa.Column("totp_confirmed_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("totp_last_step", sa.BigInteger(), nullable=False, server_default="0"))

    op.execute("update refresh_tokens set signed_in_at = created_at")
    with op.batch_alter_table("refresh_tokens", schema=None) as batch_op:
        batch_op.alter_column("signed_in_at", existing_type=sa.DateTime(timezone=True), nullable=False)


def downgrade() -> None:
    raise NotImplementedError("restore the backup from before the update")


def _chain_the_audit() -> None:
    """Move the entries that stand into a chain of their own, called `before`, in the order they were written."""
    op.rename_table("audit_entries", "audit_entries_before")
    with op.batch_alter_table("audit_entries_before", schema=None) as batch_op:
        batch_op.drop_index("ix_audit_entries_organisation_id")
    chained = op.create_table(
        "audit_entries",
        sa.Column("hub_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("organisation_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=160), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=160), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("hub_id", "number", name="pk_audit_entries_chained"),
    )
    with op.batch_alter_table("audit_entries", schema=None) as batch_op:
        batch_op.create_index("ix_audit_entries_organisation_at", ["organisation_id", "at"], unique=False)
    _copy_chained(chained)
    op.drop_table("audit_entries_before")


def _copy_chained(chained: sa.Table) -> None:
    connection, previous, number = op.get_bind(), "", 0
    before = sa.table(
        "audit_entries_before",
        sa.column("position", sa.Integer()),
        sa.column("organisation_id", sa.String()),
        sa.column("at", sa.DateTime(timezone=True)),
        sa.column("actor", sa.String()),
        sa.column("action", sa.String()),
        sa.column("target", sa.String()),
        sa.column("detail", sa.JSON()),
    )
    for row in connection.execute(sa.select(before).order_by(before.c.position)).mappings().all():
        number += 1
        at = row["at"] if row["at"].tzinfo else row["at"].replace(tzinfo=UTC)
        detail = orjson.dumps(row["detail"], option=orjson.OPT_SORT_KEYS).decode()
        microseconds = (at - EPOCH) // timedelta(microseconds=1)
        words = (row["actor"], row["action"], row["target"], detail)
        covered = (previous, CHAIN, number, row["organisation_id"], microseconds, *words)
        previous = hashlib.sha256(msgspec.json.encode(covered)).hexdigest()
        values = {name: value for name, value in row.items() if name != "position"}
        connection.execute(
            chained.insert().values(
                **values | {"hub_id": CHAIN, "number": number, "at": at, "detail": detail, "hash": previous}
            )
        )
    if number:
        heads = sa.table(
            "audit_heads", sa.column("hub_id"), sa.column("number"), sa.column("hash"), sa.column("checkpoint")
        )
        connection.execute(heads.insert().values(hub_id=CHAIN, number=number, hash=previous, checkpoint=0))
