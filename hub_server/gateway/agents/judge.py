"""Whether an agent is welcome: asked at the door, and again and again while its session runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.fleet.service import FleetService
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.agents.session import Origin, SessionEnded
from hub_server.pki.model import Standing
from hub_server.pki.service import CertificateService
from protocol.codes import CloseCode
from protocol.enumerations import AgentTrust, ConnectionReason, RefusalAction

log = structlog.get_logger(component="agents")

SWEEP_SECONDS: Final = 5.0
SWEEPS_PER_RELOAD: Final = 12
AT_ONCE: Final = 500
QUARANTINE_RETRY_SECONDS: Final = 900


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an agent is not welcome, and what it shall do. `why` is for people who look at it: a few words."""

    code: CloseCode
    message: str
    action: RefusalAction
    why: str
    reason: ConnectionReason = ConnectionReason.REVOKED
    retry_after_sec: int | None = None

    def ending(self) -> SessionEnded:
        return SessionEnded(self.code, self.message, self.reason)


REVOKED: Final = Objection(CloseCode.REVOKED, "this agent was revoked", RefusalAction.NEVER, "revoked")
QUARANTINED: Final = Objection(
    CloseCode.REVOKED,
    "this agent is in quarantine until somebody releases it",
    RefusalAction.RETRY_AFTER,
    "in quarantine",
    ConnectionReason.QUARANTINED,
    QUARANTINE_RETRY_SECONDS,
)
UNKNOWN: Final = Objection(
    CloseCode.IDENTITY_UNKNOWN,
    "this hub does not know the agent; enroll it again",
    RefusalAction.RE_ENROLL,
    "its certificate is not known here",
)
SUPERSEDED: Final = Objection(
    CloseCode.IDENTITY_UNKNOWN,
    "the agent has a newer certificate than this one; go on with that, or enroll it again",
    RefusalAction.RE_ENROLL,
    "it shows an older certificate",
    ConnectionReason.SUPERSEDED,
)
EXPIRED: Final = Objection(
    CloseCode.IDENTITY_UNKNOWN,
    "the agent's certificate has expired; it asks for recovery, or enroll it again",
    RefusalAction.RE_ENROLL,
    "its certificate has expired",
    ConnectionReason.CONNECTION_LOST,
)
UNTRUSTED: Final = Objection(
    CloseCode.SUPERSEDED,
    "the authority of the agent's certificate was revoked; the agent asks for recovery, or enroll it again",
    RefusalAction.RETRY,
    "its certificate's authority was revoked",
    ConnectionReason.CONNECTION_LOST,
)
"""The agent tries again at once, and learns of it in the handshake."""
MOVED: Final = Objection(
    CloseCode.SUPERSEDED,
    "the agent goes on with a newer certificate",
    RefusalAction.RETRY,
    "it shows an older certificate",
    ConnectionReason.SUPERSEDED,
)
"""To a session that runs: the newer one may be on another hub."""

_BY_STANDING: Final = {
    Standing.REVOKED: REVOKED,
    Standing.UNKNOWN: UNKNOWN,
    Standing.EXPIRED: EXPIRED,
    Standing.UNTRUSTED: UNTRUSTED,
    Standing.SUPERSEDED: SUPERSEDED,
}


class Judge:
    """Answers from memory. What is decided here ends sessions at once, by an event; `run` finds what time and others
    decided, and makes up for an event that was lost.
    """

    def __init__(self, *, registry: SessionRegistry, certificates: CertificateService, fleet: FleetService) -> None:
        self._registry = registry
        self._certificates = certificates
        self._fleet = fleet

    def objection(self, origin: Origin) -> Objection | None:
        """Return why the agent is not welcome, None when it is."""
        standing = self._certificates.standing(origin.serial, origin.identity.agent_id, origin.public_key_sha256)
        trust = self._fleet.trust_of(origin.identity.agent_id)
        if trust is AgentTrust.REVOKED or standing is Standing.REVOKED:
            return REVOKED
        if trust is None:
            return UNKNOWN
        if standing is not Standing.CURRENT:
            return _BY_STANDING[standing]
        return QUARANTINED if trust is AgentTrust.QUARANTINED else None

    async def run(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            sweeps += 1
            if sweeps % SWEEPS_PER_RELOAD == 0:
                await self.reload()
            await self.sweep()

    async def reload(self) -> None:
        try:
            await self._certificates.reload()
            await self._fleet.reload_trust()
        except (SQLAlchemyError, OSError, TimeoutError):
            log.warning("what other hubs decided was not read; tried again in a minute", exc_info=True)

    async def sweep(self) -> None:
        """End the sessions of agents that are not welcome any more."""
        for number, session in enumerate(self._registry.sessions(), 1):
            objection = self.objection(session.origin)
            if objection is not None:
                session.end((MOVED if objection is SUPERSEDED else objection).ending())
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
