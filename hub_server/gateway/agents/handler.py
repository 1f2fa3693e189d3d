"""What each frame of an agent leads to: the one place where frames meet services."""

from __future__ import annotations

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.clock import Clock, milliseconds
from hub_server.commands.service import CommandService
from hub_server.errors import HubError, NotFound
from hub_server.fleet.service import FleetService
from hub_server.gateway.agents.session import HELD_FRAMES_MAX, AgentSession, SessionEnded
from hub_server.inventory.service import InventoryService
from hub_server.pki.service import CertificateService
from hub_server.presence.service import PresenceService
from hub_server.skew.service import SkewService
from hub_server.telemetry.reports import ReportService
from hub_server.telemetry.service import TelemetryService
from protocol.codes import CloseCode
from protocol.enumerations import ConnectionReason
from protocol.frames import (
    AgentFrame,
    CertificateReply,
    CertificateRequest,
    CommandAccepted,
    CommandOutput,
    CommandResult,
    CommandStarted,
    CommandState,
    DesiredApplied,
    DesiredRejected,
    Error,
    Event,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HubFrame,
    Inventory,
    Metrics,
)

log = structlog.get_logger(component="agents")


class AgentFrameHandler:
    def __init__(
        self,
        *,
        clock: Clock,
        fleet: FleetService,
        presence: PresenceService,
        telemetry: TelemetryService,
        reports: ReportService,
        skew: SkewService,
        commands: CommandService,
        certificates: CertificateService,
        inventory: InventoryService,
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._presence = presence
        self._telemetry = telemetry
        self._reports = reports
        self._skew = skew
        self._commands = commands
        self._certificates = certificates
        self._inventory = inventory

    def take(self, session: AgentSession, frame: AgentFrame) -> bool:
        """Deal with samples and heartbeats that tell nothing new of an agent that has spoken before.

        Raises as `handle` does.
        """
        if not session.has_spoken:
            return False
        if isinstance(frame, Metrics):
            self._presence.heard(session.identity.agent_id)
            self._metrics(session, frame)
            return True
        if isinstance(frame, Heartbeat):
            return self._is_beat_taken(session, frame)
        return False

    def _is_beat_taken(self, session: AgentSession, frame: Heartbeat) -> bool:
        identity = session.identity
        try:
            if frame.sysinfo and not self._fleet.is_described(
                identity.organisation_id, identity.agent_id, frame.sysinfo
            ):
                return False
            self._presence.heard(identity.agent_id)
            session.send(self._beat(session, frame))
        except NotFound as gone:
            raise SessionEnded(CloseCode.REVOKED, "this agent was removed") from gone
        return True

    async def handle(self, session: AgentSession, frame: AgentFrame) -> list[HubFrame]:
        """Raises SessionEnded when the agent may not go on."""
        try:
            if not session.has_spoken:
                session.has_spoken = await self._noted(session)
            return await self._answers(session, frame)
        except NotFound as gone:
            raise SessionEnded(CloseCode.REVOKED, "this agent was removed") from gone

    async def _answers(self, session: AgentSession, frame: AgentFrame) -> list[HubFrame]:
        organisation_id, agent_id = session.identity.organisation_id, session.identity.agent_id
        self._presence.heard(agent_id)
        match frame:
            case Metrics():
                self._metrics(session, frame)
            case Heartbeat():
                acknowledgement = self._beat(session, frame)
                if frame.sysinfo is not None:
                    await self._fleet.described(organisation_id, agent_id, frame.sysinfo)
                return [acknowledgement]
            case Event():
                return [await self._reports.report(organisation_id, agent_id, frame)]
            case CommandAccepted():
                await self._commands.accepted(organisation_id, agent_id, frame)
            case CommandStarted():
                self._commands.started(organisation_id, agent_id, frame)
            case CommandOutput():
                await self._commands.chunk(organisation_id, agent_id, frame)
            case CommandResult():
                self._commands.result(organisation_id, agent_id, frame)
            case CommandState():
                await self._commands.state(organisation_id, agent_id, frame)
            case DesiredApplied():
                await self._applied(organisation_id, agent_id, frame)
            case DesiredRejected():
                log.warning("desired state refused", agent_id=agent_id, name=frame.name, reason=frame.reason)
                self._presence.troubled(agent_id, f"refused_{frame.name}", present=True)
            case Goodbye():
                session.leaving = ConnectionReason(frame.reason.value)
            case Error():
                log.warning("agent reports an error", agent_id=agent_id, code=frame.code, detail=frame.message)
            case CertificateRequest():
                return [await self._renewed(session, frame)]
            case Inventory():
                answer = await self._inventory.receive(organisation_id, agent_id, frame)
                return [] if answer is None else [answer]
            case Hello():
                raise SessionEnded(CloseCode.BAD_FRAME, "a session has one hello")
        return []

    async def _noted(self, session: AgentSession) -> bool:
        """Note that the agent uses its certificate; False when the database takes nothing now: its next frame tries."""
        try:
            await self._certificates.seen(session.origin.serial, session.identity)
        except (SQLAlchemyError, OSError) as error:
            log.warning("certificate not noted as in use", agent_id=session.identity.agent_id, error=str(error)[:300])
            return False
        return True

    async def _applied(self, organisation_id: str, agent_id: str, frame: DesiredApplied) -> None:
        await self._fleet.applied(organisation_id, agent_id, frame.name, frame.hash)
        self._presence.troubled(agent_id, f"refused_{frame.name}", present=False)

    def _metrics(self, session: AgentSession, frame: Metrics) -> None:
        """Pass samples on; the acknowledgement follows their commit. While the store is behind they wait, bounded."""
        identity = session.identity
        if session.held or not self._telemetry.receive(
            identity.organisation_id, identity.agent_id, frame, session.frame_chars
        ):
            if len(session.held) >= HELD_FRAMES_MAX:
                raise SessionEnded(CloseCode.BUSY, "more frames than credits were given for")
            session.held.append(frame)

    async def _renewed(self, session: AgentSession, frame: CertificateRequest) -> CertificateReply | Error:
        """Raises NotFound when the agent was deleted."""
        try:
            issued = await self._certificates.renew(session.identity, session.origin.serial, frame.csr_pem)
        except NotFound:
            raise
        except HubError as refused:
            log.info("certificate refused", agent_id=session.identity.agent_id, why=refused.message)
            return Error(code=refused.code, message=refused.message, reply_to=frame.request_id)
        return CertificateReply(request_id=frame.request_id, certificate_pem=issued.pem)

    def _beat(self, session: AgentSession, frame: Heartbeat) -> HeartbeatAck:
        """Raises NotFound when the agent was deleted."""
        identity = session.identity
        self._skew.measured(identity.organisation_id, identity.agent_id, frame.clock_ms, frame.monotonic_ms)
        agent = self._fleet.get(identity.organisation_id, identity.agent_id)
        return HeartbeatAck(
            next_heartbeat_sec=agent.config.heartbeat_interval_sec,
            server_time_ms=milliseconds(self._clock.now()),
            echo_clock_ms=frame.clock_ms,
        )
