"""The audit row of a deed, in the deed's own transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.tables import AuditRow


async def record(
    connection: AsyncConnection,
    *,
    organisation_id: str,
    at: datetime,
    actor: str,
    action: str,
    target: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """`actor`: `user:<name>`, `agent:<id>` or `hub`; `target`: `<kind>:<id>`. Secrets never go into `detail`."""
    await connection.execute(
        insert(AuditRow).values(
            organisation_id=organisation_id, at=at, actor=actor, action=action, target=target, detail=detail or {}
        )
    )
