"""A small hub for tests: a real wss server that wants client certificates, and says what it is told to."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from protocol.codec import decode_agent_frame, encode
from protocol.elements import Frame
from protocol.enrollment import CaReply
from protocol.enumerations import RefusalAction
from protocol.frames import (
    AgentFrame,
    CertificateRequest,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandResultAck,
    Event,
    EventAck,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Metrics,
    MetricsAck,
    Refuse,
    Welcome,
)
from protocol.limits import SUBPROTOCOL
from tests.agent_client.fleet import Fleet, now_ms

F = TypeVar("F", bound=Frame)
WAIT_SECONDS = 60.0


@dataclass
class Peer:
    """One session, seen from the hub: every frame that came, in order."""

    connection: ServerConnection
    serial: str = ""
    frames: list[AgentFrame] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    closed: bool = False

    async def send(self, frame: Frame) -> None:
        await self.connection.send(encode(frame), text=True)

    def all(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def first(self, kind: type[F], where: Callable[[F], bool] = lambda _: True) -> F:
        return (await self.several(1, kind, where))[0]

    async def several(self, count: int, kind: type[F], where: Callable[[F], bool] = lambda _: True) -> list[F]:
        """Wait until `count` frames of the kind have come."""

        def found() -> list[F]:
            return [frame for frame in self.all(kind) if where(frame)]

        async with asyncio.timeout(WAIT_SECONDS), self.news:
            await self.news.wait_for(lambda: len(found()) >= count or self.closed)
        assert len(found()) >= count, f"session closed before {count} of {kind.__name__} came: {self.frames}"
        return found()

    def drop(self) -> None:
        """Cut the connection without a word, as a killed hub does."""
        self.connection.transport.abort()


@dataclass
class Hub:
    """What it answers is set by the fields; `acknowledges` turns whole kinds of answers off."""

    port: int = 0
    heartbeat_seconds: int = 30
    sample_seconds: int = 1
    credits: dict[str, int] = field(default_factory=lambda: {"live": 8, "backfill": 8, "events": 8, "output": 16})
    acknowledges: bool = True
    answers_heartbeats: bool = True
    welcome: dict[str, Any] = field(default_factory=dict)
    instead_of_welcome: Callable[[Peer], Any] | None = None
    with_welcome: Callable[[Peer], Any] | None = None
    certify: Callable[[CertificateRequest], Frame | None] = lambda _: None
    claims: Callable[[], CaReply] | None = None
    welcomed: list[str] = field(default_factory=list)
    story: list[tuple[str, int]] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    stored: dict[tuple[str, int, int], Any] = field(default_factory=dict)
    received: list[tuple[str, int, int]] = field(default_factory=list)
    output: dict[tuple[str, str], bytearray] = field(default_factory=dict)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def peer(self, number: int = 1) -> Peer:
        """Wait for the session of that number to say hello, counted from 1."""
        async with asyncio.timeout(WAIT_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.peers) >= number)
        peer = self.peers[number - 1]
        await peer.first(Hello)
        return peer

    async def serve(self, connection: ServerConnection) -> None:
        peer = Peer(connection, serial=connection.transport.get_extra_info("peercert")["serialNumber"])
        async with self._arrived:
            self.peers.append(peer)
            self._arrived.notify_all()
        try:
            async for raw in connection:
                frame = decode_agent_frame(raw)
                peer.frames.append(frame)
                await self._answer(peer, frame)
                async with peer.news:
                    peer.news.notify_all()
        except ConnectionClosed:
            pass
        finally:
            peer.closed = True
            self.story.append(("ended", self.peers.index(peer) + 1))
            async with peer.news:
                peer.news.notify_all()

    async def _answer(self, peer: Peer, frame: AgentFrame) -> None:
        match frame:
            case Hello() if self.instead_of_welcome is not None:
                await self.instead_of_welcome(peer)
            case Hello() if peer.serial in self.welcomed[:-1]:
                await peer.send(Refuse(code=4401, message="superseded", action=RefusalAction.RE_ENROLL))
                await peer.connection.close(4401, "superseded")
            case Hello():
                await self._welcome(peer)
            case CertificateRequest():
                if reply := self.certify(frame):
                    await peer.send(reply)
            case Heartbeat() if self.answers_heartbeats:
                await peer.send(
                    HeartbeatAck(
                        next_heartbeat_sec=self.heartbeat_seconds, server_time_ms=now_ms(), echo_clock_ms=frame.clock_ms
                    )
                )
            case Metrics():
                for sample in frame.samples:
                    self._store((frame.lane.value, frame.epoch, sample.seq), sample)
                ranges = [(sample.seq, sample.seq) for sample in frame.samples]
                if self.acknowledges:
                    await peer.send(
                        MetricsAck(
                            epoch=frame.epoch, lane=frame.lane, ranges=ranges, credits=self.credits[frame.lane.value]
                        )
                    )
            case Event():
                self._store(("events", frame.epoch, frame.seq), frame)
                if self.acknowledges:
                    await peer.send(EventAck(epoch=frame.epoch, ranges=[(frame.seq, frame.seq)]))
            case CommandOutput():
                await self._on_output(peer, frame)
            case CommandResult() if self.acknowledges:
                await peer.send(CommandResultAck(command_id=frame.command_id))
            case _:
                pass

    async def _welcome(self, peer: Peer) -> None:
        """Let `peer` in. From here on every certificate but its own is superseded."""
        self.story.append(("welcome", self.peers.index(peer) + 1))
        if peer.serial not in self.welcomed:
            self.welcomed.append(peer.serial)
        await peer.send(self._greeting())
        if self.with_welcome is not None:
            await self.with_welcome(peer)

    def tell(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a plain GET, as the agents' listener does without a certificate."""
        if request.path != "/api/v1/agent/ca" or self.claims is None:
            return None
        return connection.respond(HTTPStatus.OK, msgspec.json.encode(self.claims()).decode())

    def _greeting(self) -> Welcome:
        values: dict[str, Any] = {
            "protocol": 1,
            "session_id": f"session-{len(self.peers)}",
            "server_time_ms": now_ms(),
            "next_heartbeat_sec": self.heartbeat_seconds,
            "sample_interval_sec": self.sample_seconds,
            "credits": self.credits,
        }
        return Welcome(**values | self.welcome)

    def _store(self, key: tuple[str, int, int], value: Any) -> None:
        self.received.append(key)
        self.stored.setdefault(key, value)

    async def _on_output(self, peer: Peer, frame: CommandOutput) -> None:
        raw = frame.data.encode() if frame.encoding == "utf8" else base64.b64decode(frame.data)
        held = self.output.setdefault((frame.command_id, frame.stream.value), bytearray())
        assert frame.offset <= len(held), "output with a hole"
        held[frame.offset :] = held[frame.offset : frame.offset] + raw
        if self.acknowledges:
            ack = CommandOutputAck(command_id=frame.command_id, stream=frame.stream, offset=len(held), credits=1)
            await peer.send(ack)


@asynccontextmanager
async def running(fleet: Fleet, folder: Path, hub: Hub, client_root: str | None = None) -> AsyncIterator[Hub]:
    """Run `hub` on its port, or on a free one that it is then given. Sessions are cut at the end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(*fleet.server_files(folder))
    context.load_verify_locations(cadata=client_root or fleet.root.pem)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED if hub.claims is None else ssl.CERT_OPTIONAL
    server: Server = await serve(
        hub.serve,
        "127.0.0.1",
        hub.port,
        ssl=context,
        process_request=hub.tell,
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        ping_interval=None,
        close_timeout=0.5,
    )
    hub.port = next(iter(server.sockets)).getsockname()[1]
    try:
        yield hub
    finally:
        for peer in hub.peers:
            with suppress(OSError):
                peer.drop()
        server.close()
        await server.wait_closed()
