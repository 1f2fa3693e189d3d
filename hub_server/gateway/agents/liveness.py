"""One sweep over all sessions instead of a timer for each: silence, stalled sockets, older sessions, held frames."""

from __future__ import annotations

import asyncio
from typing import Final

from hub_server.gateway.agents.clones import CloneWatch
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.agents.session import AgentSession, SessionEnded
from hub_server.pauses import PauseMeter
from hub_server.telemetry.service import TelemetryService
from protocol.codes import CloseCode
from protocol.enumerations import ConnectionReason
from protocol.limits import (
    HEARTBEAT_SECONDS,
    OFFLINE_AFTER_SECONDS,
    PING_AFTER_HEARTBEATS,
    SEND_DEADLINE_AGENT_SECONDS,
)

SWEEP_SECONDS: Final = 1.0
SUPERSEDED_GRACE_SECONDS: Final = 10.0
AT_ONCE: Final = 500
OUTBOXES_A_SWEEP: Final = 2000
"""To ask a connection what it holds takes longer than all else: of a larger fleet each is asked in its turn."""
PING_AFTER_SECONDS: Final = PING_AFTER_HEARTBEATS * HEARTBEAT_SECONDS


class Liveness:
    def __init__(
        self, *, registry: SessionRegistry, pauses: PauseMeter, telemetry: TelemetryService, clones: CloneWatch
    ) -> None:
        self._registry = registry
        self._pauses = pauses
        self._telemetry = telemetry
        self._clones = clones
        self._sweeps = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        now = self._pauses.active_seconds()
        self._sweeps += 1
        turns = 1 + len(self._registry) // OUTBOXES_A_SWEEP
        turn = self._sweeps % turns
        for number, session in enumerate(self._registry.sessions(), 1):
            if not _is_well(session, now) or (number % turns == turn and session.unsent_bytes):
                await self._check(session, now)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # frames come between
        for session in self._registry.retiring():
            await self._retire(session, now)

    async def _check(self, session: AgentSession, now: float) -> None:
        silent_seconds = now - session.heard_at
        if silent_seconds >= OFFLINE_AFTER_SECONDS:
            session.end(SessionEnded(CloseCode.HUB_FAULT, "nothing heard", ConnectionReason.SILENT))
        elif silent_seconds >= PING_AFTER_SECONDS and session.pinged_at is None:
            await session.ping()
        if not session.unsent_bytes:
            session.stalled_since = None
        elif session.stalled_since is None:
            session.stalled_since = now
        elif now - session.stalled_since >= SEND_DEADLINE_AGENT_SECONDS:
            session.end(SessionEnded(CloseCode.SLOW_CONSUMER, "the agent does not read what it is sent"))
        while session.held:
            frame = session.held[0]
            if not self._telemetry.receive(session.identity.organisation_id, session.identity.agent_id, frame):
                break
            del session.held[0]

    async def _retire(self, session: AgentSession, now: float) -> None:
        """End a session that had its time beside the newer one."""
        superseded = session.superseded
        if superseded is None or session.is_ending or now - superseded.at < SUPERSEDED_GRACE_SECONDS:
            return
        session.end(SessionEnded(CloseCode.SUPERSEDED, "a newer session of this identity took over"))
        await self._clones.look_at(session)


def _is_well(session: AgentSession, now: float) -> bool:
    """Tell whether there is nothing to check, its outbox aside: asked of the whole fleet each second."""
    return now - session.heard_at < PING_AFTER_SECONDS and session.stalled_since is None and not session.held
