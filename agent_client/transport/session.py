"""One session: hello, welcome, then everything that flows until it ends."""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from agent_client.config import Config
from agent_client.execution.reporting import Reporter
from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from agent_client.spool.spool import STREAMS, Stream
from agent_client.transport.dispatch import Dispatch
from agent_client.transport.endings import ABNORMAL_CLOSURE, Closed, Refused, Replaced, Unreachable
from agent_client.transport.heartbeat import Heart
from agent_client.transport.parts import Parts
from agent_client.transport.socket import SessionEnded, Socket
from agent_client.transport.streams import StreamSender
from agent_client.version import AGENT_VERSION
from protocol.codec import BadFrame, decode_hub_frame
from protocol.enumerations import GoodbyeReason
from protocol.frames import Error, Goodbye, Hello, LastDisconnect, Refuse, Welcome
from protocol.limits import AGENT_SILENCE_HEARTBEATS, OUTPUT_CREDITS, PROTOCOL_VERSION, STREAM_CREDITS

CAPABILITIES: Final = ("exec",)
OUTPUT_STREAM: Final = "output"

_log = Log("session")


class Session:
    """Owns the flow over one socket. `run()` ends by raising SessionEnded, or by cancellation."""

    def __init__(self, config: Config, parts: Parts, socket: Socket, last_disconnect: LastDisconnect | None) -> None:
        self.config = config
        self.welcomed_monotonic: float | None = None
        self.replace = asyncio.Event()
        self._parts = parts
        self._socket = socket
        self._last_disconnect = last_disconnect

    async def run(self) -> NoReturn:
        parts = self._parts
        hello = self._hello()
        await self._socket.send(hello)
        welcome = await self._welcomed()
        senders = self._senders(welcome)
        reporter = self._reporter(hello, welcome)
        parts.jobs.held_open(welcome.jobs)
        parts.cadence.heartbeat_seconds = float(max(welcome.next_heartbeat_sec, 1))
        parts.cadence.set_sample_interval(float(welcome.sample_interval_sec))
        self.welcomed_monotonic = parts.clock.monotonic()
        parts.cadence.session_up()
        parts.board.connected(welcome.session_id, parts.clock.now_ms())
        _log.info("session up", session_id=welcome.session_id, protocol=welcome.protocol)
        try:
            await self._flow(senders, reporter)
        finally:
            parts.cadence.session_down()
            parts.board.disconnected()

    async def say_goodbye(self, reason: GoodbyeReason) -> None:
        """Tell the hub why this agent goes. The socket's owner closes it."""
        await self._socket.send(Goodbye(reason=reason))

    def is_stable_after(self, seconds: float) -> bool:
        return (
            self.welcomed_monotonic is not None and self._parts.clock.monotonic() - self.welcomed_monotonic >= seconds
        )

    async def _flow(self, senders: dict[Stream, StreamSender], reporter: Reporter) -> NoReturn:
        heart = Heart(self._parts, self._socket.send)
        dispatch = Dispatch(self._parts, self._socket.send, heart, senders, reporter)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(dispatch), name="session-receive")
                group.create_task(heart.run(), name="session-heartbeat")
                group.create_task(reporter.run(), name="session-jobs")
                group.create_task(self._watch_silence(), name="session-silence")
                group.create_task(self._watch_replacement(), name="session-replacement")
                for sender in senders.values():
                    group.create_task(sender.run(), name=f"session-{sender.stream}")
        except ExceptionGroup as group:
            raise _end_of(group) from group
        raise AssertionError("a session's tasks do not end by themselves")

    def _hello(self) -> Hello:
        parts = self._parts
        return Hello(
            protocol=(PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent_version=AGENT_VERSION,
            boot_id=parts.boot_id,
            clock_ms=parts.clock.now_ms(),
            monotonic_ms=int(parts.clock.monotonic() * 1000),
            streams=parts.spool.states(),
            capabilities=[*CAPABILITIES],
            jobs=parts.jobs.progress(),
            hashes=parts.desired.hashes(),
            last_disconnect=self._last_disconnect,
        )

    async def _welcomed(self) -> Welcome:
        """Return the welcome. Raises SessionEnded when the hub refuses, or says nothing in time."""
        try:
            async with asyncio.timeout(self.config.welcome_timeout_seconds):
                while True:
                    match decode_hub_frame(await self._socket.receive()):
                        case Welcome() as welcome:
                            return welcome
                        case Refuse() as refuse:
                            raise SessionEnded(Refused(refuse))
                        case Error(code=code, message=message):
                            _log.warn("hub answered hello with an error", code=code, reason=message)
                        case frame:
                            _log.warn("frame before the welcome", frame=type(frame).__name__)
        except TimeoutError:
            raise SessionEnded(Unreachable("the hub did not answer hello in time")) from None
        except BadFrame as error:
            raise SessionEnded(Unreachable(f"the hub's answer to hello is not understood: {error}")) from error

    def _senders(self, welcome: Welcome) -> dict[Stream, StreamSender]:
        senders = {
            stream: StreamSender(
                stream,
                self._parts.spool,
                self._socket.send,
                self._parts.clock,
                window=welcome.credits.get(stream, STREAM_CREDITS),
                ack_timeout_seconds=self.config.ack_timeout_seconds,
            )
            for stream in STREAMS
        }
        for stream, sender in senders.items():
            if ack := welcome.acks.get(stream):
                try:
                    sender.acknowledged(ack.epoch, ack.ranges)
                except DatabaseError as error:  # a full disk takes no deletion either; it is acknowledged again later
                    _log.error("the spool did not take it", reason=str(error))
        return senders

    def _reporter(self, hello: Hello, welcome: Welcome) -> Reporter:
        return Reporter(
            self._parts.jobs,
            self._socket.send,
            self._parts.clock,
            said_in_hello=hello.jobs,
            window=welcome.credits.get(OUTPUT_STREAM, OUTPUT_CREDITS),
            ack_timeout_seconds=self.config.ack_timeout_seconds,
        )

    async def _receive(self, dispatch: Dispatch) -> NoReturn:
        while True:
            await dispatch.take(await self._socket.receive())

    async def _watch_silence(self) -> NoReturn:
        """Drop a connection on which nothing came for three heartbeats."""
        while True:
            limit = AGENT_SILENCE_HEARTBEATS * self._parts.cadence.heartbeat_seconds
            silent = self._parts.clock.monotonic() - self._socket.last_received_monotonic
            if silent >= limit:
                self._socket.abort()
                raise SessionEnded(Closed(ABNORMAL_CLOSURE, f"the hub was silent for {silent:.0f} s"))
            await asyncio.sleep(limit - silent)

    async def _watch_replacement(self) -> NoReturn:
        await self.replace.wait()
        await self.say_goodbye(GoodbyeReason.RESTART)
        raise SessionEnded(Replaced())


def _end_of(group: ExceptionGroup[Exception]) -> Exception:
    """Return the one reason a session ended for; a fault that is no ending goes first."""
    _, faults = group.split((SessionEnded, DatabaseError))
    if faults:
        return faults
    first = group.exceptions[0]
    if isinstance(first, DatabaseError):
        return SessionEnded(Closed(ABNORMAL_CLOSURE, f"the agent's spool failed: {first}"))
    return first
