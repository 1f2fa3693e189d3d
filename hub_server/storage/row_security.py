"""Whether PostgreSQL's row-level security binds the role that the hub connects as."""

from __future__ import annotations

import structlog
from sqlalchemy import text

from hub_server.storage.engine import EVERY_ORGANISATION, Database

log = structlog.get_logger(component="storage")


async def warn_if_unbound(database: Database) -> None:
    """Log one warning when the role is a superuser or has BYPASSRLS: organisations are kept apart by the hub alone."""
    if database.is_sqlite:
        return
    async with database.read(EVERY_ORGANISATION) as connection:
        role = (
            await connection.execute(
                text("select rolname from pg_roles where rolname = current_user and (rolsuper or rolbypassrls)")
            )
        ).scalar_one_or_none()
    if role is not None:
        log.warning(
            "the database role is bound by no row-level security; give the hub a plain role that owns its database",
            role=role,
        )
