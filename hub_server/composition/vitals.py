"""The hub's own figures: where they are read, and where they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hub_server.access.model import Principal
from hub_server.access.users import UserService
from hub_server.composition.foundation import Foundation
from hub_server.telemetry.query import MetricHistory
from hub_server.telemetry.service import TelemetryService
from hub_server.vitals.service import VitalsService
from protocol.frames import Metrics, StreamAck
from protocol.telemetry import MetricsQuery, MetricsQueryReply


@dataclass(frozen=True, slots=True)
class OwnSamples:
    """Takes the hub's figures as an agent's samples."""

    telemetry: TelemetryService
    history: MetricHistory

    def receive(self, organisation_id: str, agent_id: str, frame: Metrics) -> bool:
        return self.telemetry.receive(organisation_id, agent_id, frame)

    def acknowledged(self, agent_id: str) -> Mapping[str, StreamAck]:
        return self.telemetry.acknowledged(agent_id)

    async def query(self, principal: Principal, request: MetricsQuery) -> MetricsQueryReply:
        return await self.history.query(principal, request)


def vitals_on(
    base: Foundation, telemetry: TelemetryService, history: MetricHistory, users: UserService
) -> VitalsService:
    return VitalsService(
        clock=base.clock,
        hub_id=base.database.hub_id,
        read=base.instruments.figures,
        organisation=users.ensure_default_organisation,
        samples=OwnSamples(telemetry, history),
    )
