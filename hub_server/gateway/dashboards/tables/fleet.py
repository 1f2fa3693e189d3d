"""Operations on machines, and on the feed of what they send."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.fleet.model import Agent
from hub_server.fleet.service import FleetService
from hub_server.fleet.trust import TrustDesk
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.operations import Caller, Entry, Table
from hub_server.pki.service import CertificateService
from protocol.operations import (
    AgentsDelete,
    AgentsGet,
    AgentsGetReply,
    AgentsList,
    AgentsListReply,
    AgentsQuarantine,
    AgentsRelease,
    AgentsRevoke,
    AgentsUpdate,
    FeedAck,
    FeedSubscribe,
    FeedSubscribeReply,
)
from protocol.requests import Reply


class FleetOperations:
    def __init__(
        self,
        *,
        fleet: FleetService,
        desk: TrustDesk,
        view: FleetView,
        feed: LiveFeed,
        certificates: CertificateService,
    ) -> None:
        self._fleet = fleet
        self._desk = desk
        self._view = view
        self._feed = feed
        self._certificates = certificates

    @property
    def table(self) -> Table:
        return {
            "agents:list": Entry(Permission.FLEET_READ, self._agents_list),
            "agents:get": Entry(Permission.FLEET_READ, self._agents_get),
            "agents:update": Entry(Permission.FLEET_WRITE, self._agents_update),
            "agents:delete": Entry(Permission.FLEET_DELETE, self._agents_delete),
            "agents:revoke": Entry(Permission.FLEET_REVOKE, self._agents_revoke),
            "agents:quarantine": Entry(Permission.FLEET_REVOKE, self._agents_quarantine),
            "agents:release": Entry(Permission.FLEET_REVOKE, self._agents_release),
            "feed:subscribe": Entry(Permission.FLEET_READ, self._feed_subscribe),
            "feed:ack": Entry(Permission.FLEET_READ, self._feed_ack),
        }

    async def _agents_list(self, caller: Caller, request: AgentsList) -> AgentsListReply:
        return self._view.page(caller.principal.organisation_id, request)

    async def _agents_get(self, caller: Caller, request: AgentsGet) -> AgentsGetReply:
        return self._shown(self._fleet.get(caller.principal.organisation_id, request.agent_id))

    def _shown(self, agent: Agent) -> AgentsGetReply:
        return AgentsGetReply(
            agent=self._view.summary(agent),
            config=agent.config,
            config_applied=agent.config_applied,
            thresholds=agent.thresholds,
            trust=agent.trust,
            trust_reason=agent.trust_reason,
            certificate_expires_at=self._certificates.expires_at(agent.id),
        )

    async def _agents_update(self, caller: Caller, request: AgentsUpdate) -> AgentsGetReply:
        return self._shown(await self._fleet.update(caller.principal, request))

    async def _agents_delete(self, caller: Caller, request: AgentsDelete) -> Reply:
        await self._fleet.delete(caller.principal, request)
        return Reply()

    async def _agents_revoke(self, caller: Caller, request: AgentsRevoke) -> AgentsGetReply:
        return self._shown(await self._desk.revoke(caller.principal, request))

    async def _agents_quarantine(self, caller: Caller, request: AgentsQuarantine) -> AgentsGetReply:
        return self._shown(await self._desk.quarantine(caller.principal, request))

    async def _agents_release(self, caller: Caller, request: AgentsRelease) -> AgentsGetReply:
        return self._shown(await self._desk.release(caller.principal, request))

    async def _feed_subscribe(self, caller: Caller, request: FeedSubscribe) -> FeedSubscribeReply:
        return await self._feed.subscribe(caller.socket_id, caller.principal.organisation_id, request)

    async def _feed_ack(self, caller: Caller, request: FeedAck) -> Reply:
        self._feed.acknowledge(caller.socket_id, request.version)
        return Reply()
