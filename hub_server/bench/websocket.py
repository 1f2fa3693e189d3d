"""The least of a WebSocket client (RFC 6455): text frames, pings, closes. Light, because thousands share a process."""

from __future__ import annotations

import asyncio
import base64
import os
import zlib
from typing import Final, Protocol, cast

from protocol.limits import AGENT_SOCKET_PATH, SUBPROTOCOL

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FINAL_BIT: Final = 0x80
MASK_BIT: Final = 0x80
LENGTH_16: Final = 126
LENGTH_64: Final = 127
NORMAL: Final = 1000
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
HEAD_END: Final = b"\r\n\r\n"
SWITCHED: Final = b"HTTP/1.1 101"
COMPRESSED_BIT: Final = 0x40
COMPRESSION: Final = b"permessage-deflate"
OFFER: Final = "permessage-deflate; client_max_window_bits; server_no_context_takeover; client_no_context_takeover"
"""Each message by itself (RFC 7692, 7.1.1): no window is kept for thousands of sockets."""
TAIL: Final = b"\x00\x00\xff\xff"
SMALLEST_WINDOW_BITS: Final = 9
"""What is sent is short."""


class Listener(Protocol):
    """Who speaks over a socket. `closed` is called once, also when the socket never opened."""

    def opened(self, socket: ClientSocket) -> None: ...

    def received(self, text: bytes) -> None: ...

    def closed(self, code: int, reason: str) -> None: ...


class ClientSocket(asyncio.Protocol):
    """One connection. What it sends is never bounded here: its speaker obeys credits.

    `target`: path and query of the upgrade. `subprotocol` "" asks for none. `offers_compression`: as browsers do, which
    compress all they send once the hub agrees. `message_bytes`: what the newest message was on the wire.
    """

    __slots__ = (
        "_buffer",
        "_close_code",
        "_is_compressed",
        "_is_open",
        "_listener",
        "_offers_compression",
        "_reason",
        "_subprotocol",
        "_target",
        "_transport",
        "message_bytes",
    )

    def __init__(
        self,
        listener: Listener,
        *,
        target: str = AGENT_SOCKET_PATH,
        subprotocol: str = SUBPROTOCOL,
        offers_compression: bool = False,
    ) -> None:
        self.message_bytes = 0
        self._listener = listener
        self._target = target
        self._subprotocol = subprotocol
        self._offers_compression = offers_compression
        self._is_compressed = False
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._is_open = False
        self._close_code = ABNORMAL
        self._reason = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own are not derived from it
        key = base64.b64encode(os.urandom(16)).decode()
        protocol = f"Sec-WebSocket-Protocol: {self._subprotocol}\r\n" if self._subprotocol else ""
        extensions = f"Sec-WebSocket-Extensions: {OFFER}\r\n" if self._offers_compression else ""
        self._transport.write(
            f"GET {self._target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{protocol}{extensions}\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._is_open and not self._opened():
            return
        while (frame := self._next_frame()) is not None:
            self._take(*frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.closed(self._close_code, self._reason or str(exc or "connection lost"))

    def send(self, text: bytes) -> None:
        if self._is_compressed:
            self._write(COMPRESSED_BIT | TEXT, _compressed(text))
        else:
            self._write(TEXT, text)

    def close(self) -> None:
        """Say that this side is done (RFC 6455, 5.5.1); the hub's own close follows."""
        self._write(CLOSE, NORMAL.to_bytes(2))

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _opened(self) -> bool:
        head, end, rest = self._buffer.partition(HEAD_END)
        if not end:
            return False
        if not head.startswith(SWITCHED):
            self._reason = head.partition(b"\r\n")[0].decode(errors="replace")
            self.abort()
            return False
        self._buffer = rest
        self._is_open = True
        self._is_compressed = COMPRESSION in head
        self._listener.opened(self)
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        """Take the next whole frame, as its first byte and payload, off the buffer."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1], 2
        if size == LENGTH_16:
            size, start = int.from_bytes(buffer[2:4]), 4
        elif size == LENGTH_64:
            size, start = int.from_bytes(buffer[2:10]), 10
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[0], buffer[start : start + size]

    def _take(self, first_byte: int, payload: bytes) -> None:
        if first_byte == FINAL_BIT | TEXT:
            self.message_bytes = len(payload)
            self._listener.received(payload)
        elif first_byte == FINAL_BIT | COMPRESSED_BIT | TEXT and self._is_compressed:
            self.message_bytes = len(payload)
            self._listener.received(zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + TAIL))
        elif first_byte == FINAL_BIT | PING:
            self._write(PONG, payload)
        elif first_byte == FINAL_BIT | CLOSE:
            self._close_code = int.from_bytes(payload[:2]) if payload else NO_CODE
            self._reason = payload[2:].decode(errors="replace")
            self._write(CLOSE, payload[:2])
        elif first_byte != FINAL_BIT | PONG:
            self._reason = f"a frame of a kind that hubs do not send: {first_byte:#x}"
            self.abort()

    def _write(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        size = len(payload)
        head = bytes((FINAL_BIT | opcode,))
        if size < LENGTH_16:
            head += bytes((MASK_BIT | size,))
        elif size < 1 << 16:
            head += bytes((MASK_BIT | LENGTH_16,)) + size.to_bytes(2)
        else:
            head += bytes((MASK_BIT | LENGTH_64,)) + size.to_bytes(8)
        key = os.urandom(4)
        mask = key * (size // 4 + 1)
        masked = int.from_bytes(payload) ^ int.from_bytes(mask[:size])
        self._transport.write(head + key + masked.to_bytes(size))


def _compressed(text: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -SMALLEST_WINDOW_BITS, 1)
    return (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
