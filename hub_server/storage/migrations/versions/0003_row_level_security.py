"""Row-level security: a transaction sees and writes the rows of the organisation it named, and no others.

PostgreSQL only. The scope is the setting `jtnt.organisation` of the transaction: an organisation's id, or `*` for the
hub's own work. Without one nothing is visible. FORCE, because the hub owns its tables.
"""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCOPE = "(select nullif(current_setting('jtnt.organisation', true), ''))"
EVERYTHING = f"{SCOPE} = '*'"
POLICY = "within_organisation"
ANYBODY = "new_by_anybody"
OF_THE_HUB = "authorities"
MEMBER = "exists (select 1 from memberships where memberships.user_id = users.id)"
VISIBLE_USER = "exists (select 1 from users where users.id = recovery_codes.user_id)"


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in _tables_of_organisations():
        _protect(table, f"organisation_id = {SCOPE} or {EVERYTHING}")
    _protect("organisations", f"id = {SCOPE} or {EVERYTHING}")
    _protect("users", f"{EVERYTHING} or {MEMBER}", also_new=True)  # a person is made before their membership
    _protect("recovery_codes", f"{EVERYTHING} or {VISIBLE_USER}")
    _protect(OF_THE_HUB, EVERYTHING)


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(f"drop policy {ANYBODY} on users")
    for table in (*_tables_of_organisations(), "organisations", "recovery_codes", "users", OF_THE_HUB):
        op.execute(f"drop policy {POLICY} on {table}")
        op.execute(f"alter table {table} no force row level security")
        op.execute(f"alter table {table} disable row level security")


def _tables_of_organisations() -> Iterator[str]:
    inspector = sa.inspect(op.get_bind())
    for table in sorted(inspector.get_table_names()):
        if any(column["name"] == "organisation_id" for column in inspector.get_columns(table)):
            yield table


def _protect(table: str, condition: str, *, also_new: bool = False) -> None:
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy {POLICY} on {table} using ({condition}) with check ({condition})")
    if also_new:
        op.execute(f"create policy {ANYBODY} on {table} for insert with check (true)")
