"""Looks again and again for machines of which something is new, and has them judged."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.policies.compliance import ComplianceService
from hub_server.policies.service import PolicyService

log = structlog.get_logger(component="policies")

ROUND_SECONDS: Final = 5.0
ROUNDS_PER_RELOAD: Final = 12
"""How often policies are read again: another hub may have changed them."""


class ComplianceKeeper:
    """A changed policy is judged by at once, everything else within ROUND_SECONDS."""

    def __init__(self, *, policies: PolicyService, compliance: ComplianceService) -> None:
        self._policies = policies
        self._compliance = compliance
        self.failures = 0

    async def run(self) -> None:
        rounds = 0
        while True:
            rounds += 1
            try:
                if rounds % ROUNDS_PER_RELOAD == 0:
                    await self._policies.load()
                await self._compliance.round()
            except (DBAPIError, PoolTimeout, OSError) as error:
                self.failures += 1
                log.warning("compliance not stored; the next round judges again", error=str(error)[:500])
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._policies.changed.wait()
