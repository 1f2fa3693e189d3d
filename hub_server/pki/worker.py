"""Looks after the hub's keys: every minute, and at once after a command beside it, it takes over what others changed,
rotates what is due, renews the hub's own certificate, and says when a person has to help.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from hub_server.errors import Conflict, KeysRefused
from hub_server.pki.authority import Authority
from hub_server.pki.listener import AgentsTls
from hub_server.pki.news import news_in

log = structlog.get_logger(component="keys")

ROUND_SECONDS: Final = 60.0
LISTEN_SECONDS: Final = 0.5


class Keeper:
    """`on_trust_changed` runs before any other task of the hub sees the new trust document."""

    def __init__(
        self,
        *,
        authority: Authority,
        tls: AgentsTls,
        round_seconds: float = ROUND_SECONDS,
        on_trust_changed: Sequence[Callable[[], None]] = (),
        hears: Path | None = None,
    ) -> None:
        self._authority = authority
        self._tls = tls
        self._round_seconds = round_seconds
        self._on_trust_changed = tuple(on_trust_changed)
        self._hears = hears
        self._told_trust = authority.trust_hash
        self._advice: list[str] = []

    async def run(self) -> None:
        while True:
            heard = self._news()
            try:
                await self.tend()
            except KeysRefused as error:
                log.error("keys of the database not usable; those in memory stay in use", why=str(error))
            await self._pause(heard)

    async def tend(self) -> None:
        """One round. Raises KeysRefused when the database's keys cannot be used; the old ones stay in use then."""
        await self._authority.refresh()
        self._tell()
        try:
            await self._authority.tend()
        except Conflict as error:  # somebody rotated in the same moment
            log.info("rotation put off", why=error.message)
        self._tell()
        self._advise()

    async def _pause(self, heard: int) -> None:
        """Wait for the next round, which comes early when there is news."""
        ends_monotonic = time.monotonic() + self._round_seconds
        await asyncio.sleep(min(self._round_seconds, LISTEN_SECONDS))
        while (left := ends_monotonic - time.monotonic()) > 0 and self._news() == heard:  # noqa: ASYNC110
            await asyncio.sleep(min(left, LISTEN_SECONDS))

    def _news(self) -> int:
        return 0 if self._hears is None else news_in(self._hears)

    def _tell(self) -> None:
        """No await in here: between the new keyring and those who are told nothing else may run."""
        if self._tls.refresh():
            log.info("certificate of the agents' listener or its anchors exchanged")
        if self._authority.trust_hash == self._told_trust:
            return
        self._told_trust = self._authority.trust_hash
        log.info("trust document changed", version=self._authority.trust_version)
        for listener in self._on_trust_changed:
            listener()

    def _advise(self) -> None:
        advice = self._authority.advice()
        for sentence in advice:
            if sentence not in self._advice:
                log.warning("keys need a person", advice=sentence)
        self._advice = advice
