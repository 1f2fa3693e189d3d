"""Sections of the inventory on their way to the hub: those it does not hold, part by part, until it says it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from agent_client.inventory.shelf import Shelf, Stored
from agent_client.logs import Log
from protocol.frames import AgentFrame, Inventory

PART_PAUSE_SECONDS: Final = 0.1
FIRST_RETRY_SECONDS: Final = 600.0
RETRY_MAX_SECONDS: Final = 6 * 3600.0

_log = Log("inventory")

Send = Callable[[AgentFrame], Awaitable[None]]


class InventorySender:
    """Lives as long as one session: what the hub does not hold at its end, the next one sends again."""

    def __init__(self, shelf: Shelf, send: Send, is_wanted: Callable[[], bool], ack_timeout_seconds: float) -> None:
        self._shelf = shelf
        self._send = send
        self._is_wanted = is_wanted
        self._ack_timeout_seconds = ack_timeout_seconds

    async def run(self) -> None:
        """Ends by cancellation, or with what `send` raises."""
        retry_seconds = FIRST_RETRY_SECONDS
        while True:
            tried = self._shelf.owed() if self._is_wanted() else {}
            for section, stored in tried.items():
                await self._send_section(section, stored)
            if not await self._happens(retry_seconds, partial(self._owes_other_than, tried)):
                retry_seconds = min(retry_seconds * 2, RETRY_MAX_SECONDS)

    def _owes_other_than(self, tried: Mapping[str, Stored]) -> bool:
        owed = self._shelf.owed() if self._is_wanted() else {}
        return any(tried.get(section) != stored for section, stored in owed.items())

    def _is_settled(self, section: str, stored: Stored) -> bool:
        return self._shelf.owed().get(section) != stored

    async def _send_section(self, section: str, stored: Stored) -> None:
        """Send all parts while wanted, slowly enough for everything else to get through, until the hub holds them."""
        for number in range(1, stored.parts + 1):
            body = self._shelf.part(stored, number)
            if number > 1:
                await asyncio.sleep(PART_PAUSE_SECONDS)
            if body is None or not self._is_wanted():
                return
            frame = Inventory(hash=stored.hash, body=body, section=section, part=number, parts=stored.parts)
            await self._send(frame)
        if await self._happens(self._ack_timeout_seconds, partial(self._is_settled, section, stored)):
            _log.info("inventory held by the hub", section=section, parts=stored.parts)
        else:
            _log.warn("inventory not acknowledged, it is sent again later", section=section)

    async def _happens(self, seconds: float, fact: Callable[[], bool]) -> bool:
        """Return whether `fact` came true in that time; it can change only with the shelf's news."""
        try:
            async with asyncio.timeout(seconds):
                while not fact():
                    self._shelf.news.clear()
                    await self._shelf.news.wait()
        except TimeoutError:
            return False
        return True
