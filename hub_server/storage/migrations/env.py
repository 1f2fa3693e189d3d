"""Alembic's entry: always on the connection that storage/upgrade.py hands in."""

import re
from typing import Any, Final, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy.sql.schema import SchemaItem, Table
from sqlmodel import AutoString, SQLModel

from hub_server.storage import schema  # noqa: F401  registers every table
from hub_server.storage.columns import UtcDateTime

PARTITION: Final = re.compile(r"metric_[a-z0-9_]+_[0-9]{6,8}")
"""The name of a day's or month's part of a table: the hub makes and drops them as time goes."""

TAKEN_OVER: Final = "agent_metrics"
"""Left on SQLite when version 0.1 had samples: they move into files, and the table stays empty."""


def include_object(item: SchemaItem, name: str | None, kind: str, reflected: bool, _other: SchemaItem | None) -> bool:
    """Tell whether this engine has the table, and whether it is the migrations' business."""
    if kind == "table" and isinstance(item, Table) and not reflected:
        return item.info.get("engine") in {None, context.get_context().dialect.name}
    return kind != "table" or (name != TAKEN_OVER and PARTITION.fullmatch(name or "") is None)


def render_type(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Write the product's column types as plain SQLAlchemy ones, so that a migration stands by itself."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
    render_item=render_type,
    include_object=include_object,
)
context.run_migrations()
