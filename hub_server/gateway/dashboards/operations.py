"""The operations table: name → permission, request, service. Nothing is dispatched by attribute name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.alerts.service import AlertService
from hub_server.commands.service import CommandService
from hub_server.enrollment.service import EnrollmentService
from hub_server.errors import HubError, InvalidRequest
from hub_server.fleet.service import FleetService
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.pki.service import CertificateService
from hub_server.telemetry.service import TelemetryService
from protocol.codec import BadFrame, check_value, split_path
from protocol.codes import ErrorCode
from protocol.operations import (
    OPERATIONS,
    AgentsDelete,
    AgentsGet,
    AgentsGetReply,
    AgentsList,
    AgentsListReply,
    AgentsUpdate,
    FeedAck,
    FeedSubscribe,
    FeedSubscribeReply,
    Reply,
    Request,
)


class UnknownOperation(HubError):
    code = ErrorCode.UNKNOWN_OPERATION


class Caller(NamedTuple):
    """Who asks, and on which socket."""

    principal: Principal
    socket_id: str


class Entry(NamedTuple):
    permission: Permission
    run: Callable[[Caller, Any], Awaitable[Reply]]


class Operations:
    def __init__(
        self,
        *,
        fleet: FleetService,
        view: FleetView,
        feed: LiveFeed,
        telemetry: TelemetryService,
        alerts: AlertService,
        commands: CommandService,
        enrollment: EnrollmentService,
        certificates: CertificateService,
    ) -> None:
        self._fleet = fleet
        self._view = view
        self._feed = feed
        self._certificates = certificates
        self.table: Mapping[str, Entry] = {
            "agents:list": Entry(Permission.FLEET_READ, self._agents_list),
            "agents:get": Entry(Permission.FLEET_READ, self._agents_get),
            "agents:update": Entry(Permission.FLEET_WRITE, self._agents_update),
            "agents:delete": Entry(Permission.FLEET_DELETE, self._agents_delete),
            "metrics:query": Entry(
                Permission.FLEET_READ, lambda caller, request: telemetry.query(caller.principal, request)
            ),
            "alerts:list": Entry(Permission.FLEET_READ, lambda caller, request: alerts.list(caller.principal, request)),
            "alerts:resolve": Entry(
                Permission.ALERTS_RESOLVE, lambda caller, request: alerts.resolve(caller.principal, request)
            ),
            "commands:create": Entry(
                Permission.COMMANDS_RUN, lambda caller, request: commands.create(caller.principal, request)
            ),
            "commands:list": Entry(
                Permission.COMMANDS_READ, lambda caller, request: commands.list(caller.principal, request)
            ),
            "commands:get": Entry(
                Permission.COMMANDS_READ, lambda caller, request: commands.get(caller.principal, request)
            ),
            "commands:cancel": Entry(
                Permission.COMMANDS_RUN, lambda caller, request: commands.cancel(caller.principal, request)
            ),
            "commands:output": Entry(
                Permission.COMMANDS_READ, lambda caller, request: commands.output(caller.principal, request)
            ),
            "tokens:create": Entry(
                Permission.TOKENS_WRITE, lambda caller, request: enrollment.create_token(caller.principal, request)
            ),
            "tokens:list": Entry(
                Permission.TOKENS_READ, lambda caller, request: enrollment.list_tokens(caller.principal, request)
            ),
            "tokens:revoke": Entry(
                Permission.TOKENS_WRITE, lambda caller, request: enrollment.revoke_token(caller.principal, request)
            ),
            "feed:subscribe": Entry(Permission.FLEET_READ, self._feed_subscribe),
            "feed:ack": Entry(Permission.FLEET_READ, self._feed_ack),
        }

    async def ask(self, caller: Caller, name: str, body: Any) -> Reply:
        """Run one operation. Raises HubError; a wrong field's path is in it."""
        entry = self.table.get(name)
        if entry is None:
            raise UnknownOperation(f"there is no operation {name[:64]!r}")
        request = request_of(name, body)
        authorize(caller.principal, entry.permission)
        return await entry.run(caller, request)

    async def _agents_list(self, caller: Caller, request: AgentsList) -> AgentsListReply:
        return self._view.page(caller.principal.organisation_id, request)

    async def _agents_get(self, caller: Caller, request: AgentsGet) -> AgentsGetReply:
        agent = self._fleet.get(caller.principal.organisation_id, request.agent_id)
        return AgentsGetReply(
            agent=self._view.summary(agent),
            config=agent.config,
            config_applied=agent.config_applied,
            thresholds=agent.thresholds,
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


def request_of(name: str, body: Any) -> Request:
    """Return the typed request. Raises InvalidRequest that names the field."""
    operation = OPERATIONS[name]
    try:
        check_value(body)
        return msgspec.convert({} if body is None else body, operation.request)
    except msgspec.ValidationError as error:
        message, path = split_path(str(error))
        raise InvalidRequest(f"{message} at {path}", path=path) from error
    except BadFrame as error:
        raise InvalidRequest(str(error), path="$") from error
