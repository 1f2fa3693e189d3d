"""The agents' WebSocket: from a verified certificate to a session, or a refusal that says why.

Refusals come after the upgrade, with a code: in TLS 1.3 a client cannot tell why its handshake was refused.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiohttp import WSMsgType, web
from sqlalchemy.exc import SQLAlchemyError

from hub_server.clock import Clock, milliseconds
from hub_server.commands.service import CommandService
from hub_server.errors import NotFound, Unauthenticated
from hub_server.fleet.model import Agent
from hub_server.fleet.service import FleetService
from hub_server.gateway.agents.agent_socket import AgentSocket
from hub_server.gateway.agents.clones import CloneWatch
from hub_server.gateway.agents.judge import REVOKED, UNKNOWN, Judge, Objection
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.agents.session import (
    CLOSE_DEADLINE_SECONDS,
    AgentSession,
    FrameHandler,
    Origin,
    SessionEnded,
    Supersession,
)
from hub_server.gateway.visitors import prove
from hub_server.inventory.service import InventoryService
from hub_server.pauses import PauseMeter
from hub_server.pki.listener import peer_of
from hub_server.pki.service import CertificateService
from hub_server.presence.service import PresenceService
from hub_server.skew.service import SkewService
from hub_server.telemetry.service import TelemetryService
from protocol.codec import BadFrame, FrameTooLarge, decode_agent_frame, encode
from protocol.codes import CloseCode
from protocol.enumerations import ConnectionReason, Lane, RefusalAction
from protocol.frames import Checkpoint, Drain, Hello, Refuse, Welcome
from protocol.identity import MalformedIdentity
from protocol.limits import (
    FRAME_MAX_BYTES,
    HELLO_MAX_BYTES,
    HELLO_TIMEOUT_SECONDS,
    PROTOCOL_VERSION,
    SUBPROTOCOL,
)

log = structlog.get_logger(component="agents")

RECEIVE_MAX_BYTES: Final = 4 * FRAME_MAX_BYTES  # beyond it the library closes with 1009; up to it we say 4413
NEVER_DRAIN_BYTES: Final = 1 << 60  # writes never wait: AgentSession.send bounds what is unsent
RETURNS_PER_SECOND: Final = 100


class Refused(Exception):
    """An agent that gets no session; `refusal` says what it shall do, `why` what people see at the machine."""

    def __init__(
        self, code: CloseCode, message: str, action: RefusalAction, why: str = "", retry_after_sec: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.why = why
        self.refusal = Refuse(code=code, message=message, action=action, retry_after_sec=retry_after_sec)


class Gone(Exception):
    """An agent that lost its connection before its hello: nobody is there to refuse."""


class AgentEndpoint:
    def __init__(
        self,
        *,
        trust_domain: str,
        clock: Clock,
        pauses: PauseMeter,
        registry: SessionRegistry,
        handler: FrameHandler,
        certificates: CertificateService,
        fleet: FleetService,
        presence: PresenceService,
        telemetry: TelemetryService,
        skew: SkewService,
        inventory: InventoryService,
        commands: CommandService,
        judge: Judge,
        clones: CloneWatch,
        newest_checkpoint: Callable[[], Checkpoint | None],
    ) -> None:
        self._trust_domain = trust_domain
        self._clock = clock
        self._pauses = pauses
        self._registry = registry
        self._handler = handler
        self._certificates = certificates
        self._fleet = fleet
        self._presence = presence
        self._telemetry = telemetry
        self._skew = skew
        self._inventory = inventory
        self._commands = commands
        self._judge = judge
        self._clones = clones
        self._newest_checkpoint = newest_checkpoint
        self._draining = False

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """The route's handler: 401 without a client certificate, else an upgrade."""
        if not _description(request):
            raise Unauthenticated("agents connect with their client certificate; run jtnt-agent enroll")
        socket = AgentSocket(
            protocols=(SUBPROTOCOL,),
            compress=False,
            autoping=False,
            timeout=CLOSE_DEADLINE_SECONDS,
            max_msg_size=RECEIVE_MAX_BYTES,
            writer_limit=NEVER_DRAIN_BYTES,
        )
        await socket.prepare(request)
        socket.headers.clear()  # they are sent, and would stay with each session
        origin: Origin | None = None
        try:
            origin = self._origin(request)
            agent = await self._known(origin)
            if socket.ws_protocol != SUBPROTOCOL:
                raise _other_version(f"subprotocol {SUBPROTOCOL} is needed")
            await self._session(*await self._introduced(request, socket, origin, agent))
        except Gone:
            log.debug("agent gone before its hello")
        except Refused as refused:
            self._note(refused, origin)
            await _refuse(socket, refused)
        except (SQLAlchemyError, OSError):
            log.exception("agent's session ended by the database")
            await socket.close(code=CloseCode.HUB_FAULT, message=b"the hub's database failed; come back later")
        except Exception:  # one agent's session is isolated: whatever its frames broke, the others go on
            log.exception("agent's session failed")
            await socket.close(code=CloseCode.HUB_FAULT, message=b"the hub failed on this session")
        _forget_traces(socket)
        return socket

    async def drain(self) -> None:
        """Send every agent away in its own slot: the hub stops."""
        self._draining = True
        sessions = list(self._registry.sessions())
        over_seconds = 1 + len(sessions) // RETURNS_PER_SECOND
        for index, session in enumerate(sessions):  # nobody comes back at once: it would find the hub stopping
            session.send(Drain(over_sec=over_seconds, slot_sec=1 + index // RETURNS_PER_SECOND))
            session.end(SessionEnded(CloseCode.DRAINING, "the hub stops"))

    def _origin(self, request: web.Request) -> Origin:
        """Return who speaks, and let go of the connection's description of it: two kilobytes a session."""
        if self._draining:
            raise Refused(CloseCode.DRAINING, "the hub is stopping", RefusalAction.RETRY)
        tls: ssl.SSLObject | None = request.transport.get_extra_info("ssl_object") if request.transport else None
        certificate = _description(request)
        if tls is None or certificate is None:
            raise Gone
        try:
            peer = peer_of(certificate, tls.getpeercert(binary_form=True))
        except MalformedIdentity as error:
            raise Refused(CloseCode.IDENTITY_UNKNOWN, str(error), RefusalAction.RE_ENROLL) from error
        certificate.clear()
        if peer is None or peer.identity.trust_domain != self._trust_domain:
            raise _refused(UNKNOWN)
        return Origin(peer.identity, peer.serial, peer.public_key_sha256, request.remote or "")

    async def _known(self, origin: Origin) -> Agent:
        agent = await self._fleet.find(origin.identity.organisation_id, origin.identity.agent_id)
        await self._certificates.look_up(origin.serial, origin.identity.agent_id, origin.public_key_sha256)
        self._refuse_unwelcome(origin)
        if agent is None:  # it was deleted between the two questions
            raise _refused(UNKNOWN)
        return agent

    def _refuse_unwelcome(self, origin: Origin) -> None:
        objection = self._judge.objection(origin)
        if objection is not None:
            raise _refused(objection)

    async def _hello(self, request: web.Request, socket: web.WebSocketResponse) -> Hello:
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_SECONDS):
                message = await socket.receive()
        except TimeoutError as late:
            raise _no_hello(f"no hello within {HELLO_TIMEOUT_SECONDS:g} s") from late
        if request.transport is None:
            raise Gone
        if message.type is not WSMsgType.TEXT:
            raise _no_hello("the first frame must be a hello")
        try:
            hello = decode_agent_frame(message.data, HELLO_MAX_BYTES)
        except FrameTooLarge as large:
            raise _bad_hello(CloseCode.TOO_LARGE, str(large)) from large
        except BadFrame as bad:
            raise _bad_hello(CloseCode.BAD_FRAME, f"{bad} at {bad.path or '$'}") from bad
        if not isinstance(hello, Hello):
            raise _no_hello("the first frame must be a hello")
        low, high = hello.protocol
        if not low <= PROTOCOL_VERSION <= high:
            raise _other_version(f"this hub speaks protocol {PROTOCOL_VERSION}; the agent {low} to {high}")
        return hello

    async def _introduced(
        self, request: web.Request, socket: AgentSocket, origin: Origin, agent: Agent
    ) -> tuple[AgentSession, Agent, AgentSession | None]:
        """Return the session that the agent's hello begins, and the older one beside it. The hello itself, two
        kilobytes, is not kept.
        """
        hello = await self._hello(request, socket)
        self._skew.measured(agent.organisation_id, agent.id, hello.clock_ms, hello.monotonic_ms)
        if (transport := request.transport) is None:
            raise Gone
        session = AgentSession(uuid.uuid4().hex, origin, socket, transport, self._pauses)
        try:
            agent = await self._fleet.greeted(agent, hello)
        except NotFound as deleted:
            raise _refused(REVOKED) from deleted
        open_jobs = await self._commands.reconcile(agent.organisation_id, agent.id, hello.jobs)
        self._refuse_unwelcome(origin)  # decided while it was asked who it is
        session.send(self._welcome(session, agent, open_jobs))
        prove(request)
        older = self._registry.enter(session)
        for offer in self._fleet.offers(
            agent, hello.hashes
        ):  # nothing is awaited between the two: no newer one is missed
            session.send(offer)
        objection = self._judge.objection(origin)
        if objection is not None:  # decided while this session could not be told
            session.end(objection.ending())
        return session, agent, older

    async def _session(self, session: AgentSession, agent: Agent, older: AgentSession | None) -> None:
        """Hold a session that is in the registry, to its end."""
        if older is not None:
            await self._supersede(older, session)
        self._presence.opened(agent.organisation_id, agent.id, agent.hostname)
        log.info("agent connected", agent_id=agent.id, session_id=session.id, address=session.origin.address)
        reason = ConnectionReason.CONNECTION_LOST
        try:
            reason = await session.run(self._handler)
        except (SQLAlchemyError, OSError):
            log.exception("session ended by the database", agent_id=agent.id)
            reason = ConnectionReason.HUB_AWAY
            await session.close(SessionEnded(CloseCode.HUB_FAULT, "the hub's database failed; come back later"))
        finally:
            gone = self._registry.leave(session)
            log.info("agent disconnected", agent_id=agent.id, session_id=session.id, reason=reason)
            if gone and (session.leaving is not None or not self._draining):
                self._presence.closed(agent.id, reason)
        await self._go_on_with_older(agent.id)

    def _note(self, refused: Refused, origin: Origin | None) -> None:
        """Let people see why a machine they know does not come in."""
        if origin is None or not refused.why:
            return
        identity = origin.identity
        if self._fleet.exists(identity.organisation_id, identity.agent_id):
            self._presence.refused(
                identity.organisation_id,
                identity.agent_id,
                self._fleet.hostname_of(identity.organisation_id, identity.agent_id),
                refused.why,
                returns_soon=refused.refusal.action is RefusalAction.RETRY,
            )

    async def _supersede(self, older: AgentSession, newer: AgentSession) -> None:
        """Give the older session its time; the ping tells whether anybody is there."""
        is_handover = self._certificates.is_successor(newer.origin.serial, of=older.origin.serial)
        older.superseded = Supersession(self._pauses.active_seconds(), newer.origin.address, is_handover)
        await older.ping()

    async def _go_on_with_older(self, agent_id: str) -> None:
        """The newer session went first: whoever is left is the agent's only one again."""
        left = self._registry.get(agent_id)
        if left is not None and left.superseded is not None:
            await self._clones.look_at(left)
            left.superseded = None

    def _welcome(self, session: AgentSession, agent: Agent, open_jobs: Sequence[str]) -> Welcome:
        return Welcome(
            protocol=PROTOCOL_VERSION,
            session_id=session.id,
            server_time_ms=milliseconds(self._clock.now()),
            next_heartbeat_sec=agent.config.heartbeat_interval_sec,
            sample_interval_sec=agent.config.sample_interval_sec,
            credits={lane.value: self._telemetry.credits(lane) for lane in Lane},
            acks=self._telemetry.acknowledged(agent.id),
            jobs=list(open_jobs),
            desired=self._fleet.desired_hashes(agent),
            checkpoint=self._newest_checkpoint(),
            inventory=dict(self._inventory.hashes(agent.id)),
        )


def _description(request: web.Request) -> dict[str, Any] | None:
    """Return the verified client certificate as the event loop described it at the end of the handshake; empty or None
    where none was given.
    """
    transport = request.transport
    described: dict[str, Any] | None = transport.get_extra_info("peercert") if transport else None
    return described


def _forget_traces(socket: web.WebSocketResponse) -> None:
    """Break the cycle of a lost connection: socket, its error, the error's frames, socket. Frozen, it would stay."""
    error = socket.exception()
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def _refused(objection: Objection) -> Refused:
    return Refused(objection.code, objection.message, objection.action, objection.why, objection.retry_after_sec)


def _no_hello(message: str) -> Refused:
    return Refused(CloseCode.NO_HELLO, message, RefusalAction.RETRY, "it sent no hello")


def _bad_hello(code: CloseCode, message: str) -> Refused:
    return Refused(code, message, RefusalAction.FIX_CONFIG, "its hello cannot be read")


def _other_version(message: str) -> Refused:
    return Refused(CloseCode.VERSION, message, RefusalAction.FIX_CONFIG, "it speaks another version of the protocol")


async def _refuse(socket: web.WebSocketResponse, refused: Refused) -> None:
    log.info("agent refused", code=int(refused.code), reason=refused.refusal.message)
    with suppress(ConnectionError):
        await socket.send_frame(encode(refused.refusal), WSMsgType.TEXT)
    await socket.close(code=refused.code, message=refused.refusal.message.encode()[:120])
