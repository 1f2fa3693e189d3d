"""Who lets an agent in, and who keeps it out: quarantine, release, revocation."""

from __future__ import annotations

from typing import Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.audit.record import record
from hub_server.bus.port import Bus
from hub_server.clock import Clock
from hub_server.errors import Conflict, NotFound
from hub_server.events import AgentTrustChanged, SessionEndRequested
from hub_server.fleet.model import TRUST_STEPS, Agent
from hub_server.fleet.service import FleetService
from hub_server.fleet.store import FleetStore
from hub_server.storage.engine import Database
from protocol.enumerations import AgentTrust, ConnectionReason
from protocol.operations import AgentsQuarantine, AgentsRelease, AgentsRevoke

log = structlog.get_logger(component="fleet")

HUB: Final = "hub"
ENDS: Final = {
    AgentTrust.QUARANTINED: ConnectionReason.QUARANTINED,
    AgentTrust.REVOKED: ConnectionReason.REVOKED,
}
ACTIONS: Final = {
    AgentTrust.TRUSTED: "agents:release",
    AgentTrust.QUARANTINED: "agents:quarantine",
    AgentTrust.REVOKED: "agents:revoke",
}


class Certificates(Protocol):
    """What becomes of a revoked agent's certificates."""

    async def revoke_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        """Within the caller's transaction."""

    def note_revoked(self, agent_id: str) -> None:
        """The revocation is committed."""


class TrustDesk:
    """One transaction a decision, then the end of the agent's session on whichever hub holds it."""

    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        store: FleetStore,
        fleet: FleetService,
        certificates: Certificates,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._fleet = fleet
        self._certificates = certificates

    async def revoke(self, principal: Principal, request: AgentsRevoke) -> Agent:
        """Make the agent's certificates worth nothing, for good; one that is revoked already stays as it is."""
        agent = self._asked_for(principal, request.agent_id)
        return await self._decide(agent, AgentTrust.REVOKED, request.reason, principal.actor)

    async def quarantine(self, principal: Principal, request: AgentsQuarantine) -> Agent:
        """Keep the agent out until it is released. Raises Conflict for one that is revoked."""
        agent = self._asked_for(principal, request.agent_id)
        return await self._decide(agent, AgentTrust.QUARANTINED, request.reason, principal.actor)

    async def release(self, principal: Principal, request: AgentsRelease) -> Agent:
        """Let an agent in again. Raises Conflict for one that is revoked."""
        agent = self._asked_for(principal, request.agent_id)
        return await self._decide(agent, AgentTrust.TRUSTED, "", principal.actor)

    async def quarantine_by_hub(self, organisation_id: str, agent_id: str, reason: str) -> None:
        """Keep the agent out for what the hub saw itself. Raises NotFound, and Conflict for one that is revoked."""
        agent = self._fleet.get(organisation_id, agent_id)
        await self._decide(agent, AgentTrust.QUARANTINED, reason, HUB)

    def _asked_for(self, principal: Principal, agent_id: str) -> Agent:
        return self._fleet.get(authorize(principal, Permission.FLEET_REVOKE), agent_id)

    async def _decide(self, agent: Agent, trust: AgentTrust, reason: str, actor: str) -> Agent:
        organisation_id = agent.organisation_id
        async with self._database.write(organisation_id) as connection:
            held = await connection.run_sync(self._store.lock_trust, organisation_id, agent.id)
            if held is None:
                raise NotFound("this agent was deleted meanwhile", path="$.agentId")
            if held is trust:
                return self._fleet.get(organisation_id, agent.id)
            if trust not in TRUST_STEPS[held]:
                raise Conflict(f"this agent is {held}; it can only enroll anew", path="$.agentId")
            changes = {"trust": trust, "trust_reason": reason}
            await connection.run_sync(self._store.update, organisation_id, agent.id, changes)
            if trust is AgentTrust.REVOKED:
                await self._certificates.revoke_agent(connection, organisation_id, agent.id)
            await record(
                connection,
                organisation_id=organisation_id,
                at=self._clock.now(),
                actor=actor,
                action=ACTIONS[trust],
                target=f"agent:{agent.id}",
                detail={"hostname": agent.hostname, "was": held, "reason": reason},
            )
        if trust is AgentTrust.REVOKED:
            self._certificates.note_revoked(agent.id)
        log.info("agent's trust changed", agent_id=agent.id, trust=trust, actor=actor)
        changed = self._fleet.trust_changed(agent, trust, reason)
        self._tell(changed, by_hub=actor == HUB)
        return changed

    def _tell(self, agent: Agent, *, by_hub: bool) -> None:
        organisation_id = agent.organisation_id
        if agent.trust in ENDS:
            self._bus.publish(
                SessionEndRequested(organisation_id=organisation_id, agent_id=agent.id, reason=ENDS[agent.trust])
            )
        self._bus.publish(
            AgentTrustChanged(
                organisation_id=organisation_id,
                agent_id=agent.id,
                trust=agent.trust,
                reason=agent.trust_reason,
                by_hub=by_hub,
            )
        )
