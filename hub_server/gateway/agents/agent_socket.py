"""aiohttp's WebSocket for a fleet that talks all day: messages can be dealt with as they are read.

Read in the usual way each of them wakes a task through a dozen coroutines and leaves ten objects that the garbage
collector has to look at, an agent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader, WebSocketWriter
from aiohttp.web_request import BaseRequest

READ_AHEAD_BYTES: Final = 1 << 16
FINAL_TEXT: Final = 0x81
"""The first octet of a message of text in one frame (RFC 6455, 5.2)."""
LENGTH_OF_16_BITS: Final = 126
LENGTH_OF_64_BITS: Final = 127

Taker = Callable[[str], bool]


class AgentSocket(web.WebSocketResponse):
    """Without compression and heartbeats of its own."""

    _messages: _Messages | None = None

    def offer_to(self, taker: Taker | None) -> None:
        """Offer texts to `taker` as they are read, in order; those it refuses are there to be received.

        It must raise nothing.
        """
        assert self._messages is not None, "the socket is not prepared"
        self._messages.taker = taker

    def _post_start(self, request: BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        """Do as aiohttp does, with a queue that offers what is put into it."""
        self._ws_protocol = protocol
        self._writer = writer
        self._messages = _Messages(request.protocol, READ_AHEAD_BYTES, loop=asyncio.get_running_loop())
        self._reader = self._messages
        self._parser = WebSocketReader(self._reader, self._max_msg_size, compress=False, decode_text=True)
        request.protocol.set_parser(self._parser)
        request.protocol.keep_alive(False)


class _Messages(WebSocketDataQueue):
    taker: Taker | None = None

    def feed_data(self, data: Any, size: int) -> None:
        if self.taker is None or data.type is not WSMsgType.TEXT or not self.taker(data.data):
            super().feed_data(data, size)


def text_frame(text: bytes) -> bytes:
    """Return the bytes of a message of text as a server sends it: in one frame, not masked."""
    size = len(text)
    if size < LENGTH_OF_16_BITS:
        return bytes((FINAL_TEXT, size)) + text
    if size < 1 << 16:
        return bytes((FINAL_TEXT, LENGTH_OF_16_BITS)) + size.to_bytes(2) + text
    return bytes((FINAL_TEXT, LENGTH_OF_64_BITS)) + size.to_bytes(8) + text
