"""Signs the end of the chain once a minute, so that agents have something to witness."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.audit.service import AuditService

log = structlog.get_logger(component="audit")
INTERVAL_SECONDS: Final = 60.0


class Checkpointer:
    def __init__(self, audit: AuditService, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._audit = audit
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        while True:
            await self.sign()
            await asyncio.sleep(self._interval_seconds)

    async def sign(self) -> None:
        """Sign now; also the last thing a hub does. When the database is away the next time does it."""
        try:
            await self._audit.checkpoint()
        except (SQLAlchemyError, OSError) as error:
            log.warning("no checkpoint of the audit", error=type(error).__name__)
