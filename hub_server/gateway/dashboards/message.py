"""An event as it travels: encoded once, whoever and however many it is for."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from hub_server.gateway.dashboards.deflate import deflated
from protocol.events import (
    AgentCommandOutput,
    AgentConnected,
    AgentDisconnected,
    AgentMetrics,
    AgentsMetrics,
    AgentsStatus,
    DashboardEvent,
    name_of,
)

SUPERSEDED: Final = (
    AgentsMetrics,
    AgentsStatus,
    AgentMetrics,
    AgentConnected,
    AgentDisconnected,
    AgentCommandOutput,
)
"""What a client that does not read may miss: a snapshot, a list or the store gives it back."""
COMPRESSIBLE: Final = (AgentsMetrics, AgentsStatus)
"""What goes to many and holds no secret. The length of what is compressed tells of what is in it, so that answers and
output, where a secret may stand beside what somebody else has chosen, never are."""
COMPRESSED_MIN_BYTES: Final = 4096
EVENT_PACKET: Final = b"42"
"""engine.io's "message", then Socket.IO's "event"."""
TEXT_FRAME: Final = 0x81
"""RFC 6455, 5.2: the last frame of a text message, from a server, so not masked."""
COMPRESSED_TEXT_FRAME: Final = 0xC1
"""The same, compressed (RFC 7692, 6)."""

_encoder: Final = msgspec.json.Encoder()


class Message:
    """An event's WebSocket frame, and the same as an engine.io packet for whoever has to wait for it or polls."""

    __slots__ = ("_header_bytes", "_text", "compressed_frame", "frame", "is_compressible", "is_droppable")

    def __init__(self, event: DashboardEvent) -> None:
        payload = b'%s["%s",%s]' % (EVENT_PACKET, name_of(event).encode(), _encoder.encode(event))
        header = _header(TEXT_FRAME, len(payload))
        self.frame: Final = header + payload
        self.compressed_frame: bytes | None = None
        """For clients that take one, once somebody has found that it is worth its making."""
        self.is_droppable: Final = isinstance(event, SUPERSEDED)
        self.is_compressible: Final = isinstance(event, COMPRESSIBLE) and len(payload) >= COMPRESSED_MIN_BYTES
        self._header_bytes = len(header)
        self._text: str | None = None

    def compress(self) -> None:
        """Make the compressed frame, unless it is there."""
        if self.compressed_frame is None:
            payload = deflated(memoryview(self.frame)[self._header_bytes :])
            self.compressed_frame = _header(COMPRESSED_TEXT_FRAME, len(payload)) + payload

    def encode(self, b64: bool = False) -> str:  # noqa: ARG002  part of what engine.io asks
        """Return the packet's text. engine.io asks this of all that it sends."""
        if self._text is None:
            self._text = self.frame[self._header_bytes :].decode()
        return self._text


def _header(first_byte: int, payload_bytes: int) -> bytes:
    if payload_bytes < 126:
        return struct.pack("!BB", first_byte, payload_bytes)
    if payload_bytes < 1 << 16:
        return struct.pack("!BBH", first_byte, 126, payload_bytes)
    return struct.pack("!BBQ", first_byte, 127, payload_bytes)
