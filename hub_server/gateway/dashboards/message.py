"""An event as it travels: encoded once, whoever and however many it is for."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

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
EVENT_PACKET: Final = b"42"
"""engine.io's "message", then Socket.IO's "event"."""
TEXT_FRAME: Final = 0x81
"""RFC 6455, 5.2: the last frame of a text message, from a server, so not masked."""

_encoder: Final = msgspec.json.Encoder()


class Message:
    """An event's WebSocket frame, and the same as an engine.io packet for whoever has to wait for it or polls."""

    __slots__ = ("_header_bytes", "_text", "frame", "is_droppable")

    def __init__(self, event: DashboardEvent) -> None:
        payload = b'%s["%s",%s]' % (EVENT_PACKET, name_of(event).encode(), _encoder.encode(event))
        header = _header(len(payload))
        self.frame: Final = header + payload
        self.is_droppable: Final = isinstance(event, SUPERSEDED)
        self._header_bytes = len(header)
        self._text: str | None = None

    def encode(self, b64: bool = False) -> str:  # noqa: ARG002  part of what engine.io asks
        """Return the packet's text. engine.io asks this of all that it sends."""
        if self._text is None:
            self._text = self.frame[self._header_bytes :].decode()
        return self._text


def _header(payload_bytes: int) -> bytes:
    if payload_bytes < 126:
        return struct.pack("!BB", TEXT_FRAME, payload_bytes)
    if payload_bytes < 1 << 16:
        return struct.pack("!BBH", TEXT_FRAME, 126, payload_bytes)
    return struct.pack("!BBQ", TEXT_FRAME, 127, payload_bytes)
