"""What each frame of the hub brings about: one handler a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import assert_never

from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from agent_client.spool.ledger import Stream
from agent_client.transport.asking import CertificateDesk
from agent_client.transport.endings import Drained, Refused
from agent_client.transport.heartbeat import Heart
from agent_client.transport.parts import Parts
from agent_client.transport.socket import SessionEnded
from agent_client.transport.streams import StreamSender
from protocol.codec import BadFrame, UnknownFrameType, decode_hub_frame
from protocol.enumerations import DesiredName
from protocol.frames import (
    AgentFrame,
    CertificateReply,
    Command,
    CommandCancel,
    CommandOutputAck,
    CommandQuery,
    CommandResultAck,
    Desired,
    Drain,
    Error,
    EventAck,
    Goodbye,
    HeartbeatAck,
    HubFrame,
    InventoryAck,
    MetricsAck,
    Refuse,
    Welcome,
)

_log = Log("session")

Send = Callable[[AgentFrame], Awaitable[None]]


class Dispatch:
    """Handles the frames of one session, one after the other. Answers are sent before the next frame is read.

    So what a frame brings about counts for the next one, also where it takes a while: a trust document for the command
    behind it.
    """

    def __init__(
        self,
        parts: Parts,
        send: Send,
        heart: Heart,
        senders: Mapping[Stream, StreamSender],
        desk: CertificateDesk,
    ) -> None:
        self._parts = parts
        self._send = send
        self._heart = heart
        self._senders = senders
        self._desk = desk

    async def take(self, raw: bytes) -> None:
        """Raises SessionEnded when the frame ends the session; a frame that cannot be understood is answered."""
        try:
            await self.handle(decode_hub_frame(raw))
        except UnknownFrameType as error:
            await self._send(Error(code="unknown_type", message=str(error)))
        except BadFrame as error:
            _log.warn("frame of the hub not understood", reason=str(error), path=error.path)
            await self._send(Error(code="bad_frame", message=f"{error} {error.path}"[:4096]))
        except DatabaseError as error:  # nothing is lost: what was not written down is sent or offered again
            _log.error("the spool did not take it", reason=str(error))

    async def handle(self, frame: HubFrame) -> None:
        match frame:
            case HeartbeatAck():
                self._heart.answered(frame)
            case MetricsAck():
                self._senders[frame.lane.value].acknowledged(frame.epoch, frame.ranges, frame.credits)
            case EventAck():
                self._senders["events"].acknowledged(frame.epoch, frame.ranges)
            case InventoryAck():
                self._parts.shelf.acknowledge(frame.section, frame.hash)
            case Command() | CommandOutputAck() | CommandResultAck() | CommandCancel() | CommandQuery():
                self._parts.jobs.carry(frame)
            case Desired():
                await self._on_desired(frame)
            case Refuse():
                raise SessionEnded(Refused(frame))
            case Drain():
                raise SessionEnded(Drained(float(frame.slot_sec)))
            case Goodbye():
                _log.info("hub says goodbye", reason=frame.reason)
            case CertificateReply():
                if not self._desk.take(frame):
                    _log.warn("certificate that nobody asked for", request_id=frame.request_id)
            case Error():
                if not self._desk.take(frame):
                    _log.warn("hub reports an error", code=frame.code, reason=frame.message)
            case Welcome():
                _log.warn("frame out of place", frame=type(frame).__name__)
            case _:
                assert_never(frame)

    async def _on_desired(self, frame: Desired) -> None:
        answer = await self._parts.desired.apply(frame)
        if frame.name is DesiredName.CONFIG:
            self._parts.cadence.sample_soon.set()
        await self._send(answer)
