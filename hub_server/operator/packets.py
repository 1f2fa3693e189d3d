"""Socket.IO over one WebSocket, as values: what is read from a message, what is written into one. No I/O.

Engine.IO 4 and Socket.IO 5, the default namespace, text only. The library that the hub serves with has a client too;
it keeps its tasks and its queues to itself, without a bound or an owner, and lets a question wait for its timeout when
the connection is gone.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from protocol.enrollment import ErrorBody
from protocol.limits import DASHBOARD_SOCKET_PATH
from protocol.requests import Reply, Request

AnyReply = TypeVar("AnyReply", bound=Reply)
QUERY: Final = f"{DASHBOARD_SOCKET_PATH}/?EIO=4&transport=websocket"
PONG: Final = "3"
_PING: Final = ord("2")
_DIGITS: Final = b"0123456789"


class BadPacket(ValueError):
    """A message that is none of Socket.IO."""


class Opened(Struct, frozen=True, rename={"ping_interval_ms": "pingInterval", "ping_timeout_ms": "pingTimeout"}):
    """The transport stands. Something comes at least every interval and timeout together."""

    ping_interval_ms: int
    ping_timeout_ms: int

    @property
    def silence_seconds(self) -> float:
        return (self.ping_interval_ms + self.ping_timeout_ms) / 1000


class Ping(Struct, frozen=True):
    """To be answered with PONG."""


class Admitted(Struct, frozen=True):
    """The hub has let this client in."""


class TurnedAway(Struct, frozen=True):
    error: ErrorBody


class Heard(Struct, frozen=True):
    """An event. `body`: its JSON."""

    name: str
    body: Raw


class Answered(Struct, frozen=True):
    """`number`: of the question. `body`: the JSON of a Reply or a Refusal."""

    number: int
    body: Raw


class Parted(Struct, frozen=True):
    """The hub ends the connection."""


class Unheeded(Struct, frozen=True):
    """A packet that means nothing to this client."""


Packet = Opened | Ping | Admitted | TurnedAway | Heard | Answered | Parted | Unheeded


class _Reason(Struct, frozen=True):
    data: ErrorBody | None = None
    message: str = ""


_event: Final = msgspec.json.Decoder(tuple[str, Raw])
_answer: Final = msgspec.json.Decoder(tuple[Raw])
_opening: Final = msgspec.json.Decoder(Opened)
_reason: Final = msgspec.json.Decoder(_Reason)


def read(message: bytes) -> Packet:
    """Return what a message of the hub says. Raises BadPacket."""
    try:
        if message[:2] == b"42":
            return Heard(*_event.decode(message[2:]))
        if message[:2] == b"43":
            return _answered(message[2:])
        if message[:1] == b"0":
            return _opening.decode(message[1:])
        if message[:2] == b"44":
            return _turned_away(message[2:])
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadPacket(f"the hub's message is not understood: {error}") from error
    if message[:1] and message[0] == _PING:
        return Ping()
    if message[:2] == b"40":
        return Admitted()
    return Parted() if message[:2] == b"41" or message[:1] == b"1" else Unheeded()


def sign_in_packet(token: str) -> str:
    return "40" + msgspec.json.encode({"token": token}).decode()


def question_packet(number: int, operation: str, request: Request) -> str:
    return f"42{number}" + msgspec.json.encode((operation, request)).decode()


class _Head(Struct, frozen=True):
    ok: bool
    error: ErrorBody | None = None


_head: Final = msgspec.json.Decoder(_Head)


def refusal_in(body: Raw) -> ErrorBody | None:
    """Return what a refusal says, None for a reply. Raises BadPacket for what is neither."""
    try:
        head = _head.decode(body)
    except msgspec.MsgspecError as error:
        raise BadPacket(f"the hub's answer is not understood: {error}") from error
    if not head.ok and head.error is None:
        raise BadPacket("the hub's answer is neither a reply nor a refusal")
    return head.error


def reply_of(body: Raw, reply_type: type[AnyReply]) -> AnyReply:
    """Raises BadPacket."""
    try:
        return msgspec.json.decode(body, type=reply_type)
    except msgspec.MsgspecError as error:
        raise BadPacket(f"the hub's answer is not understood, is it of another version? {error}") from error


def _answered(rest: bytes) -> Answered:
    digits = len(rest) - len(rest.lstrip(_DIGITS))
    (body,) = _answer.decode(rest[digits:])
    return Answered(int(rest[:digits]), body)


def _turned_away(rest: bytes) -> TurnedAway:
    reason = _reason.decode(rest)
    if reason.data is None:
        raise ValueError(reason.message or "no reason given")
    return TurnedAway(reason.data)
