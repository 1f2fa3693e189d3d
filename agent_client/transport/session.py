"""One session: hello, welcome, then everything that flows until it ends or another takes over."""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from agent_client.cancellation import check_cancelled
from agent_client.config import Config
from agent_client.execution.lane import JobLane
from agent_client.inventory.sender import InventorySender
from agent_client.logs import Log
from agent_client.renewal.pairs import Pair
from agent_client.spool.database import DatabaseError
from agent_client.spool.ledger import STREAMS, Stream
from agent_client.transport.asking import CertificateDesk
from agent_client.transport.dispatch import Dispatch
from agent_client.transport.endings import ABNORMAL_CLOSURE, Closed, Refused, Replaced, Unreachable
from agent_client.transport.heartbeat import Heart
from agent_client.transport.parts import Parts
from agent_client.transport.socket import SessionEnded, Socket
from agent_client.transport.streams import Outflow, StreamSender
from agent_client.version import AGENT_VERSION
from protocol.codec import BadFrame, decode_hub_frame
from protocol.enumerations import Action, GoodbyeReason
from protocol.frames import AgentFrame, Error, Goodbye, Hello, JobProgress, LastDisconnect, Refuse, Welcome
from protocol.limits import AGENT_SILENCE_HEARTBEATS, OUTPUT_CREDITS, PROTOCOL_VERSION, STREAM_CREDITS

CAPABILITIES: Final = tuple(action.value for action in Action)
OUTPUT_STREAM: Final = "output"
SILENCE_LOOK_SECONDS: Final = 0.05
HEARING_OUT_SECONDS: Final = 30.0  # a trust document may be among what is still to be heard; its check takes a while

_log = Log("session")


class Session:
    """Owns the flow over one socket: `greet`, then `run`."""

    def __init__(
        self,
        config: Config,
        parts: Parts,
        socket: Socket,
        pair: Pair,
        last_disconnect: LastDisconnect | None,
        jobs: list[JobProgress],
    ) -> None:
        self.config = config
        self.pair = pair
        self.id = ""
        self.replace = asyncio.Event()
        self._parts = parts
        self._socket = socket
        self._hello = self._introduction(last_disconnect, jobs)
        self._welcome: Welcome | None = None
        self._desk = CertificateDesk(socket.send)
        self._retired = asyncio.Event()
        self._speaker = socket
        self._is_taking = False

    async def greet(self) -> None:
        """Say hello and wait for the welcome; nothing flows yet. Raises SessionEnded."""
        await self._socket.send(self._hello)
        self._welcome = await self._welcomed()
        self.id = self._welcome.session_id
        if self._welcome.checkpoint is not None:
            self._parts.witness.keep(self._welcome.checkpoint)

    async def run(self) -> None:
        """Let everything flow. Returns once it was retired and all the hub still said was heard; else SessionEnded."""
        if self._welcome is None:
            raise ValueError("a session runs after its welcome")
        parts, welcome = self._parts, self._welcome
        self._reconcile(welcome)
        senders, lane = self._senders(welcome), self._lane(welcome)
        parts.shelf.hub_holds(welcome.inventory)
        parts.cadence.heartbeat_seconds = float(max(welcome.next_heartbeat_sec, 1))
        parts.cadence.set_sample_interval(float(welcome.sample_interval_sec))
        try:
            await self._flow(senders, lane)
        except SessionEnded:
            if not self._retired.is_set():
                raise

    def retire(self, successor: Session) -> None:
        """Let `successor` take over: say nothing more here, hear what the hub has said already, answer that there."""
        self._speaker = successor._socket
        self._retired.set()

    async def ask_certificate(self, csr_pem: str) -> str:
        """Return the chain the hub certifies the key with. Raises RenewalFailed or SessionEnded."""
        return await self._desk.ask(csr_pem)

    async def say_goodbye(self, reason: GoodbyeReason) -> None:
        """Tell the hub why this agent goes. The socket's owner closes it."""
        await self._socket.send(Goodbye(reason=reason))

    async def _flow(self, senders: dict[Stream, StreamSender], lane: JobLane) -> None:
        heart = Heart(self._parts, self._socket.send)
        outflow = Outflow([*senders.values()], self._parts.spool.news, self.config.ack_timeout_seconds)
        dispatch = Dispatch(self._parts, self._answer, heart, senders, self._desk)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(dispatch), name="session-receive")
                group.create_task(self._watch_silence(), name="session-silence")
                group.create_task(self._watch_replacement(), name="session-replacement")
                speakers = [
                    group.create_task(heart.run(), name="session-heartbeat"),
                    group.create_task(lane.run(), name="session-jobs"),
                    group.create_task(outflow.run(), name="session-streams"),
                    group.create_task(self._inventory().run(), name="session-inventory"),
                ]
                await self._retired.wait()
                for task in speakers:
                    task.cancel()
                await asyncio.wait(speakers)
                await self._socket.finish(HEARING_OUT_SECONDS)  # `_receive` hears the rest and ends the group
        except ExceptionGroup as group:
            check_cancelled(group)
            raise _end_of(group) from group

    async def _answer(self, frame: AgentFrame) -> None:
        await self._speaker.send(frame)

    def _introduction(self, last_disconnect: LastDisconnect | None, jobs: list[JobProgress]) -> Hello:
        parts = self._parts
        parts.spool.keep_time()
        return Hello(
            protocol=(PROTOCOL_VERSION, PROTOCOL_VERSION),
            agent_version=AGENT_VERSION,
            boot_id=parts.boot_id,
            clock_ms=parts.clock.now_ms(),
            monotonic_ms=int(parts.clock.monotonic() * 1000),
            streams=parts.spool.states(),
            capabilities=[*CAPABILITIES],
            jobs=jobs,
            hashes=parts.desired.hashes(),
            last_disconnect=last_disconnect,
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

    def _reconcile(self, welcome: Welcome) -> None:
        try:
            self._parts.spool.reconcile(welcome.acks)
        except DatabaseError as error:
            raise SessionEnded(Closed(ABNORMAL_CLOSURE, f"the agent's spool failed: {error}")) from error

    def _senders(self, welcome: Welcome) -> dict[Stream, StreamSender]:
        return {
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

    def _inventory(self) -> InventorySender:
        parts = self._parts
        return InventorySender(
            parts.shelf,
            self._socket.send,
            lambda: parts.cadence.settings.inventory_enabled,
            ack_timeout_seconds=self.config.ack_timeout_seconds,
        )

    def _lane(self, welcome: Welcome) -> JobLane:
        return JobLane(
            self._parts.jobs,
            self._socket.send,
            said=self._hello.jobs,
            held_open=welcome.jobs,
            window=welcome.credits.get(OUTPUT_STREAM, OUTPUT_CREDITS),
            ack_timeout_seconds=self.config.ack_timeout_seconds,
        )

    async def _receive(self, dispatch: Dispatch) -> NoReturn:
        while True:
            raw = await self._socket.receive()
            self._is_taking = True
            try:
                await dispatch.take(raw)
            finally:
                self._is_taking = False
            self._socket.heard()  # what came meanwhile waits to be read: the hub was not silent

    async def _watch_silence(self) -> NoReturn:
        """Drop a connection on which nothing came for three heartbeats."""
        while True:
            limit = AGENT_SILENCE_HEARTBEATS * self._parts.cadence.heartbeat_seconds
            silent = self._parts.clock.monotonic() - self._socket.last_received_monotonic
            if silent >= limit and not self._is_taking:
                self._socket.abort()
                raise SessionEnded(Closed(ABNORMAL_CLOSURE, f"the hub was silent for {silent:.0f} s"))
            await asyncio.sleep(max(limit - silent, SILENCE_LOOK_SECONDS))

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
