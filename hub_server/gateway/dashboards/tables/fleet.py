"""Operations on machines, and on the feed of what they send."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.fleet.service import FleetService
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
    AgentsUpdate,
    FeedAck,
    FeedSubscribe,
    FeedSubscribeReply,
)
from protocol.requests import Reply


class FleetOperations:
    def __init__(
        self, *, fleet: FleetService, view: FleetView, feed: LiveFeed, certificates: CertificateService
    ) -> None:
        self._fleet = fleet
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
            "feed:subscribe": Entry(Permission.FLEET_READ, self._feed_subscribe),
            "feed:ack": Entry(Permission.FLEET_READ, self._feed_ack),
        }

    async def _agents_list(self, caller: Caller, request: AgentsList) -> AgentsListReply:
        return self._view.page(caller.principal.organisation_id, request)

    async def _agents_get(self, caller: Caller, request: AgentsGet) -> AgentsGetReply:
        agent = self._fleet.get(caller.principal.organisation_id, request.agent_id)
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
        agent = await self._fleet.update(caller.principal, request)
        return await self._agents_get(caller, AgentsGet(agent_id=agent.id))

    async def _agents_delete(self, caller: Caller, request: AgentsDelete) -> Reply:
        await self._fleet.delete(caller.principal, request)
        return Reply()

    async def _feed_subscribe(self, caller: Caller, request: FeedSubscribe) -> FeedSubscribeReply:
        return await self._feed.subscribe(caller.socket_id, caller.principal.organisation_id, request)

    async def _feed_ack(self, caller: Caller, request: FeedAck) -> Reply:
        await self._feed.acknowledge(caller.socket_id, request.version)
        return Reply()
