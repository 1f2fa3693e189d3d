"""Two machines that speak as one agent: noted each time, and kept out when it goes on."""

from __future__ import annotations

from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.errors import HubError
from hub_server.fleet.trust import TrustDesk
from hub_server.gateway.agents.session import AgentSession
from hub_server.pki.service import CertificateService

log = structlog.get_logger(component="agents")

SUSPICIONS_ALLOWED: Final = 2
"""An hour; the next one means quarantine."""


class CloneWatch:
    def __init__(self, *, certificates: CertificateService, desk: TrustDesk) -> None:
        self._certificates = certificates
        self._desk = desk

    async def look_at(self, older: AgentSession) -> None:
        """Decide on a session that had a newer one beside it: one that lived, and did not hand over, was another
        machine's.
        """
        superseded = older.superseded
        if superseded is None or superseded.is_handover or older.pinged_at is not None:
            return
        identity = older.identity
        log.warning("clone suspected", agent_id=identity.agent_id, session_id=older.id)
        try:
            count = await self._certificates.suspect_clone(
                identity, older_address=older.origin.address, newer_address=superseded.newer_address
            )
            if count > SUSPICIONS_ALLOWED:
                reason = f"two machines use this agent's identity: seen {count} times within an hour"
                await self._desk.quarantine_by_hub(identity.organisation_id, identity.agent_id, reason)
        except HubError as settled:
            log.info("the suspected agent is out already", agent_id=identity.agent_id, why=settled.message)
        except (SQLAlchemyError, OSError, TimeoutError):
            log.warning("suspicion not stored", agent_id=identity.agent_id, exc_info=True)
