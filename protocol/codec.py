"""Bytes to frames and back, with the one boundary check that types cannot make."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from protocol.elements import Frame
from protocol.frames import AgentFrame, Command, Desired, HubFrame, Inventory
from protocol.limits import FRAME_MAX_BYTES, JSON_MAX_DEPTH

T = TypeVar("T")


class BadFrame(ValueError):
    """Bytes that are no frame. `path` names the field where one is at fault, as `$.samples[0].seq`."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class UnknownFrameType(BadFrame):
    """A well-formed frame of a type this side does not know; answered with `error`, no close."""

    def __init__(self, frame_type: str) -> None:
        super().__init__(f"unknown frame type {frame_type!r}", "$.type")
        self.frame_type = frame_type


class FrameTooLarge(BadFrame):
    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"frame of {size_bytes} bytes; the limit is {limit_bytes}")


class _Tag(msgspec.Struct):
    type: str = ""


_encoder: Final = msgspec.json.Encoder()
_agent_decoder: Final[msgspec.json.Decoder[AgentFrame]] = msgspec.json.Decoder(AgentFrame)
_hub_decoder: Final[msgspec.json.Decoder[HubFrame]] = msgspec.json.Decoder(HubFrame)
_tag_decoder: Final = msgspec.json.Decoder(_Tag)
_any_decoder: Final = msgspec.json.Decoder()
_UNKNOWN_TAG: Final = "Invalid value "
OPEN_FRAMES: Final = (Inventory, Command, Desired)
"""The frames that hold JSON of no fixed shape."""


def encode(frame: Frame) -> bytes:
    return _encoder.encode(frame)


def encode_text(frame: Frame) -> str:
    return _encoder.encode(frame).decode()


def decode_agent_frame(raw: bytes | str, limit_bytes: int = FRAME_MAX_BYTES) -> AgentFrame:
    """Return the frame an agent sent.

    Raises UnknownFrameType, FrameTooLarge, or BadFrame for anything else: no JSON, a wrong field, a number that is not
    finite, a NUL, nesting deeper than JSON_MAX_DEPTH.
    """
    return decode(_agent_decoder, raw, limit_bytes)


def decode_hub_frame(raw: bytes | str, limit_bytes: int = 4 * FRAME_MAX_BYTES) -> HubFrame:
    """Return the frame a hub sent. Raises as decode_agent_frame does."""
    return decode(_hub_decoder, raw, limit_bytes)


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | str, limit_bytes: int) -> T:
    """Return what `decoder` reads from `raw`. Raises as decode_agent_frame does."""
    size_bytes = len(raw) if isinstance(raw, bytes) else _utf8_size_of(raw)
    if size_bytes > limit_bytes:
        raise FrameTooLarge(size_bytes, limit_bytes)
    try:
        value = decoder.decode(raw)
        _check_what_types_cannot(value, raw)
    except msgspec.ValidationError as error:
        message, path = split_path(str(error))
        if path == "$.type" and message.startswith(_UNKNOWN_TAG):
            raise UnknownFrameType(_frame_type_of(raw)) from error
        raise BadFrame(message, path) from error
    except msgspec.DecodeError as error:
        raise BadFrame(f"not JSON: {error}") from error
    except UnicodeError as error:
        raise BadFrame("not UTF-8") from error
    except RecursionError as error:
        raise BadFrame("nested too deeply") from error
    return value


def _utf8_size_of(text: str) -> int:
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise BadFrame("not UTF-8") from error


def _frame_type_of(raw: bytes | str) -> str:
    """Return the type of a frame that has one; the rest of it may still be anything."""
    try:
        return _tag_decoder.decode(raw).type[:64]
    except msgspec.DecodeError as error:
        raise BadFrame(f"not a frame: {error}", "$.type") from error


def _check_what_types_cannot(value: object, raw: bytes | str) -> None:
    """Raise BadFrame for what stores refuse or readers trip over: NUL, or nesting that is too deep.

    Most frames are read once: a NUL shows in the text, and the types of all but the open frames bound their nesting.
    """
    if isinstance(raw, str):
        holds_nul = "\\u0000" in raw
        brackets = raw.count("{") + raw.count("[")
    else:
        holds_nul = b"\\u0000" in raw
        brackets = raw.count(b"{") + raw.count(b"[")
    may_be_deep = brackets > JSON_MAX_DEPTH and (not isinstance(value, Frame) or isinstance(value, OPEN_FRAMES))
    if holds_nul or may_be_deep:
        check_value(_any_decoder.decode(raw))


def check_value(value: Any, depth: int = 1) -> None:
    """Raise BadFrame when a decoded JSON value holds a NUL or nests deeper than JSON_MAX_DEPTH."""
    match value:
        case str():
            if "\0" in value:
                raise BadFrame("text holds a NUL character")
        case dict():
            _check_depth(depth)
            for key, item in value.items():
                check_value(key, depth + 1)
                check_value(item, depth + 1)
        case list():
            _check_depth(depth)
            for item in value:
                check_value(item, depth + 1)


def _check_depth(depth: int) -> None:
    if depth > JSON_MAX_DEPTH:
        raise BadFrame(f"nested deeper than {JSON_MAX_DEPTH} levels")


def split_path(message: str) -> tuple[str, str]:
    """Return msgspec's message and the path of the field it ends with, `$` when it names none."""
    text, separator, path = message.rpartition(" - at `")
    return (text, path.rstrip("`")) if separator else (message, "$")
