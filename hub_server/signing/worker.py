"""Keeps the signer running: it is there before the first command, and again after it died."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from hub_server.errors import KeysRefused, Unavailable
from hub_server.signing.service import Signer

AGAIN_SECONDS: Final = 1.0
AGAIN_MAX_SECONDS: Final = 30.0
log = structlog.get_logger(component="signer")


class SignerKeeper:
    """Waits longer each time that there is none; whoever wants a signature meanwhile tries for themselves."""

    def __init__(self, signer: Signer, *, again_seconds: float = AGAIN_SECONDS) -> None:
        self._signer = signer
        self._again_seconds = again_seconds

    async def run(self) -> None:
        pause_seconds = self._again_seconds
        while True:
            try:
                await self._signer.ready()
            except (KeysRefused, Unavailable) as error:
                log.error("no signer: commands cannot be given", why=str(error))
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, AGAIN_MAX_SECONDS)
            else:
                log.info("signer ready", pid=self._signer.pid)
                await self._signer.lost()
                log.warning("signer ended; it is started again")
                pause_seconds = self._again_seconds
                await asyncio.sleep(pause_seconds)
