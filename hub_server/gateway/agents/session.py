"""One agent's connection, from `welcome` to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from aiohttp import WSMsgType

from hub_server.gateway.agents.agent_socket import AgentSocket, text_frame
from hub_server.pauses import PauseMeter
from protocol.codec import BadFrame, FrameTooLarge, UnknownFrameType, decode_agent_frame, encode
from protocol.codes import CloseCode
from protocol.elements import Frame
from protocol.enumerations import ConnectionReason, RefusalAction
from protocol.frames import AgentFrame, Error, HubFrame, Metrics, Refuse
from protocol.identity import AgentIdentity
from protocol.limits import FRAMES_BURST, FRAMES_PER_SECOND, OUTBOX_MAX_BYTES, STREAM_CREDITS

log = structlog.get_logger(component="agents")

HELD_FRAMES_MAX: Final = 8 * STREAM_CREDITS
CLOSE_DEADLINE_SECONDS: Final = 2.0
FLOOD_SECONDS: Final = 60.0  # longer than the largest spool takes at full rate
FLOOD_RETRY_SECONDS: Final = 60
_DEFAULT_REASONS: Final = {
    CloseCode.SUPERSEDED: ConnectionReason.SUPERSEDED,
    CloseCode.SLOW_CONSUMER: ConnectionReason.SLOW_CONSUMER,
    CloseCode.BAD_FRAME: ConnectionReason.PROTOCOL_ERROR,
    CloseCode.TOO_LARGE: ConnectionReason.PROTOCOL_ERROR,
    CloseCode.REVOKED: ConnectionReason.REVOKED,
    CloseCode.DRAINING: ConnectionReason.HUB_STOPPED,
}


class SessionEnded(Exception):
    """The session is over for a reason of the hub's own."""

    def __init__(self, code: CloseCode, message: str, reason: ConnectionReason | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _DEFAULT_REASONS.get(code, ConnectionReason.CONNECTION_LOST)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who speaks, with which certificate and key, from where. `serial`: as `getpeercert()` has it."""

    identity: AgentIdentity
    serial: str
    public_key_sha256: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Supersession:
    """A newer session of the same agent is there since `at` (seconds of hub activity).

    `is_handover`: it came with the certificate that replaces this session's: the agent itself changes over.
    """

    at: float
    newer_address: str
    is_handover: bool


class Transport(Protocol):
    """What a session needs of its connection; uvloop's and asyncio's both have it."""

    def get_write_buffer_size(self) -> int: ...

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def abort(self) -> None: ...


class FrameHandler(Protocol):
    """Does what frames ask for."""

    def take(self, session: AgentSession, frame: AgentFrame) -> bool:
        """Deal with a frame that nobody has to wait for, and send the answers. False, and nothing done, for others."""

    async def handle(self, session: AgentSession, frame: AgentFrame) -> list[HubFrame]:
        """Return the answers, in order."""


class AgentSession:
    """Deals with frames one after the other; `send` may be called by anyone.

    A frame that needs no waiting is dealt with while it is read, as long as none before it waits in the reader task.
    There is no task or timer per session beside its reader: deadlines are swept for all sessions at once (liveness.py),
    and `end` wakes the reader, which closes the socket itself.
    """

    __slots__ = (
        "_deadline",
        "_ending",
        "_fault",
        "_flooding_since",
        "_handler",
        "_is_idle",
        "_rate_checked_at",
        "_rate_tokens",
        "_socket",
        "_transport",
        "frame_chars",
        "has_spoken",
        "heard_at",
        "held",
        "id",
        "leaving",
        "origin",
        "pauses",
        "pinged_at",
        "stalled_since",
        "superseded",
    )

    def __init__(
        self,
        session_id: str,
        origin: Origin,
        socket: AgentSocket,
        transport: Transport,
        pauses: PauseMeter,
    ) -> None:
        self.id = session_id
        self.origin = origin
        self.pauses = pauses
        self.heard_at = pauses.active_seconds()
        self.pinged_at: float | None = None
        self.stalled_since: float | None = None
        self.superseded: Supersession | None = None
        self.has_spoken = False
        self.leaving: ConnectionReason | None = None
        self.frame_chars = 0
        """How long the frame is that is dealt with now."""
        self.held: list[Metrics] = []  # few, and most agents' stays empty: a deque takes 700 bytes
        self._socket = socket
        self._transport = transport
        self._deadline: asyncio.Timeout | None = None
        self._ending: SessionEnded | None = None
        self._fault: Exception | None = None
        self._handler: FrameHandler | None = None
        self._is_idle = False
        self._flooding_since: float | None = None
        self._rate_tokens = float(FRAMES_BURST)
        self._rate_checked_at = self.heard_at

    @property
    def identity(self) -> AgentIdentity:
        return self.origin.identity

    @property
    def is_ending(self) -> bool:
        return self._ending is not None or self._socket.closed

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def send(self, frame: Frame) -> None:
        """Queue `frame` on the socket. An agent that does not read is cut off at OUTBOX_MAX_BYTES."""
        transport = self._transport
        if self._socket.closed or transport.is_closing():
            return
        data = text_frame(encode(frame))
        if transport.get_write_buffer_size() + len(data) > OUTBOX_MAX_BYTES:
            self.end(SessionEnded(CloseCode.SLOW_CONSUMER, "the agent does not read what it is sent"))
            return
        transport.write(data)

    async def ping(self) -> None:
        self.pinged_at = self.pauses.active_seconds()
        if not self._socket.closed and not self._transport.is_closing():
            try:
                await self._socket.ping()
            except ConnectionError:
                log.debug("ping for a connection that is gone", agent_id=self.identity.agent_id)

    def end(self, ending: SessionEnded) -> None:
        """End the session from outside: the reader wakes up and closes. The first ending counts."""
        if self._ending is None:
            self._ending = ending
            if self._deadline is not None:
                self._deadline.reschedule(asyncio.get_running_loop().time())

    async def run(self, handler: FrameHandler) -> ConnectionReason:
        """Read until the connection ends and return why it did."""
        self._handler = handler
        self._socket.offer_to(self._take)
        try:
            async with asyncio.timeout(None) as self._deadline:
                if self._ending is None:
                    await self._read(handler)
        except TimeoutError:
            if self._ending is None:
                raise
        except SessionEnded as ending:
            self._ending = ending
        finally:
            self._deadline = None  # `end` may still be called until the registry has let go
            self._socket.offer_to(None)
        if self._ending is not None:
            await self.close(self._ending)
            return self.leaving or self._ending.reason
        return self.leaving or ConnectionReason.CONNECTION_LOST

    async def close(self, ending: SessionEnded) -> None:
        """Close with a code; a peer that does not answer the close is cut off."""
        try:
            async with asyncio.timeout(CLOSE_DEADLINE_SECONDS):
                await self._socket.close(code=ending.code, message=ending.message.encode()[:120])
        except TimeoutError:
            self._transport.abort()

    def _take(self, text: str) -> bool:
        """Deal with a text that was just read. False leaves it to the reader task, with all that come until that waits
        again: it also tells of what is wrong with it, and ends the session where that is called for.
        """
        self._heard()  # whatever keeps the reader: the agent is not silent
        if not self._is_idle or self._ending is not None or self._handler is None:
            return False
        self._is_idle = False
        self.frame_chars = len(text)
        try:
            taken = self._refilled() >= 1 and self._handler.take(self, decode_agent_frame(text))
        except BadFrame:
            return False
        except Exception as fault:  # noqa: BLE001  the reader task raises it: what a frame broke ends its own session
            self._fault = fault
            return False
        if taken:
            self._rate_tokens -= 1
            self._flooding_since = None
            self._is_idle = True
        return taken

    async def _read(self, handler: FrameHandler) -> None:
        while True:
            self._is_idle = True
            message = await self._socket.receive()
            self._is_idle = False
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            if message.type is WSMsgType.TEXT:
                self.heard_at = self.pauses.active_seconds()  # no answer to a ping: it may have come before that
                await self._throttle()
                await self._serve(handler, message.data)
            elif message.type is WSMsgType.PING:
                self._heard()
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._heard()
            elif message.type is WSMsgType.BINARY:
                raise SessionEnded(CloseCode.BAD_FRAME, "frames are text")
            else:
                return

    async def _serve(self, handler: FrameHandler, data: str) -> None:
        self.frame_chars = len(data)
        try:
            answers = await handler.handle(self, decode_agent_frame(data))
        except UnknownFrameType as unknown:
            self.send(Error(code="unknown_type", message=str(unknown), reply_to=unknown.frame_type))
            return
        except FrameTooLarge as too_large:
            self.send(Error(code="too_large", message=str(too_large)))
            raise SessionEnded(CloseCode.TOO_LARGE, str(too_large)) from too_large
        except BadFrame as bad:
            self.send(Error(code="bad_frame", message=f"{bad} at {bad.path}" if bad.path else str(bad)))
            raise SessionEnded(CloseCode.BAD_FRAME, str(bad)) from bad
        for answer in answers:
            self.send(answer)

    def _heard(self) -> None:
        self.heard_at = self.pauses.active_seconds()
        self.pinged_at = None

    def _refilled(self) -> float:
        """Return how many frames the agent may send at once, after its last one."""
        now = self.heard_at
        self._rate_tokens = min(FRAMES_BURST, self._rate_tokens + (now - self._rate_checked_at) * FRAMES_PER_SECOND)
        self._rate_checked_at = now
        return self._rate_tokens

    async def _throttle(self) -> None:
        """Let TCP slow down an agent that sends more than FRAMES_PER_SECOND for longer than its burst.

        One that goes on for FLOOD_SECONDS is sent away for a while. Raises SessionEnded.
        """
        now = self.heard_at
        self._rate_tokens = self._refilled() - 1
        if self._rate_tokens >= 0:
            self._flooding_since = None
            return
        self._flooding_since = now if self._flooding_since is None else self._flooding_since
        if now - self._flooding_since >= FLOOD_SECONDS:
            message = f"more than {FRAMES_PER_SECOND} frames a second for {FLOOD_SECONDS:g} s"
            self.send(
                Refuse(
                    code=CloseCode.BUSY,
                    message=message,
                    action=RefusalAction.RETRY_AFTER,
                    retry_after_sec=FLOOD_RETRY_SECONDS,
                )
            )
            raise SessionEnded(CloseCode.BUSY, message, ConnectionReason.PROTOCOL_ERROR)
        await asyncio.sleep(-self._rate_tokens / FRAMES_PER_SECOND)
