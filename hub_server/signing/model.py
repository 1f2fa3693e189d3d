"""What the hub and its signer say to each other: frames of four bytes of length, big-endian, and MessagePack.

Each connection begins with Ready, or with Refused of number 0 when the signer cannot work. After that every question
has one answer with its number, in order.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct

from protocol.limits import FRAME_MAX_BYTES

MESSAGE_MAX_BYTES: Final = FRAME_MAX_BYTES + 4096
SIGNATURES_PER_SECOND: Final = 200.0
SIGNATURES_BURST: Final = 2000
LOG_MAX_BYTES: Final = 16 * 1024 * 1024
LOG_FILES_KEPT: Final = 8
_LENGTH_BYTES: Final = 4


class Terms(Struct, frozen=True, kw_only=True):
    """How a signer works. Paths are of its own machine.

    `listen`: the Unix socket it makes; without one it serves the socket that is its standard input. `users`: numbers of
    the users who may ask beside its own and root. `organisations`: whose orders it signs; empty: everybody's.
    """

    key_file: str
    log_file: str
    per_second: float = SIGNATURES_PER_SECOND
    burst: int = SIGNATURES_BURST
    log_max_bytes: int = LOG_MAX_BYTES
    log_files_kept: int = LOG_FILES_KEPT
    organisations: list[str] = []
    listen: str | None = None
    users: list[int] = []


class Sign(Struct, frozen=True, tag="sign"):
    """Sign the bytes of a JobEnvelope with the key that `sealed` holds."""

    number: int
    key_id: str
    sealed: bytes
    payload: bytes


class Make(Struct, frozen=True, tag="make"):
    """Make a new key."""

    number: int


class Adopt(Struct, frozen=True, tag="adopt"):
    """Seal a key of an earlier version, which was the main process's: 32 bytes."""

    number: int
    private_key: bytes


Question = Sign | Make | Adopt


class Ready(Struct, frozen=True, tag="ready"):
    pid: int


class Signed(Struct, frozen=True, tag="signed"):
    number: int
    signature: bytes


class Sealed(Struct, frozen=True, tag="sealed"):
    """`public_key`: 32 bytes. `sealed`: the private half, which nobody but the signer opens."""

    number: int
    public_key: bytes
    sealed: bytes


class Refusal(StrEnum):
    ORDER = "order"
    """It is none that may be signed."""
    RATE = "rate"
    KEYS = "keys"
    """The key cannot be opened."""
    LOG = "log"
    """The signer cannot write down what it signs."""


class Refused(Struct, frozen=True, tag="refused"):
    """The message is for a person and says what to do."""

    number: int
    refusal: Refusal
    message: str
    retry_after_seconds: int = 0


Answer = Ready | Signed | Sealed | Refused


class LogLine(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A line of the signer's log. `at`: ISO 8601, UTC. `sha256`: of the payload. No arguments, no environment."""

    at: str
    outcome: str
    job_id: str = ""
    organisation_id: str = ""
    agent_id: str = ""
    action: str = ""
    requested_by: str = ""
    key_id: str = ""
    sha256: str = ""
    why: str = ""


class BadMessage(ValueError):
    """Bytes that are no message of this kind."""


_encoder: Final = msgspec.msgpack.Encoder()
_questions: Final[msgspec.msgpack.Decoder[Question]] = msgspec.msgpack.Decoder(Question)
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


def frame_of(message: Question | Answer) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES) + body


def question_of(body: bytes) -> Question:
    """Raises BadMessage."""
    try:
        return _questions.decode(body)
    except msgspec.MsgspecError as error:
        raise BadMessage(str(error)) from error


def answer_of(body: bytes) -> Answer:
    """Raises BadMessage."""
    try:
        return _answers.decode(body)
    except msgspec.MsgspecError as error:
        raise BadMessage(str(error)) from error


class Frames:
    """Cuts a stream into the bodies of messages."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that `data` completes. Raises BadMessage for one larger than MESSAGE_MAX_BYTES."""
        self._held += data
        bodies: list[bytes] = []
        while len(self._held) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._held[:_LENGTH_BYTES])
            if end > _LENGTH_BYTES + MESSAGE_MAX_BYTES:
                raise BadMessage(f"a message of {end - _LENGTH_BYTES} bytes; the limit is {MESSAGE_MAX_BYTES}")
            if len(self._held) < end:
                break
            bodies.append(bytes(self._held[_LENGTH_BYTES:end]))
            del self._held[:end]
        return bodies
