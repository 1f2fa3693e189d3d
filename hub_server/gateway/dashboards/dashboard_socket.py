"""aiohttp's WebSocket for dashboards, where the hub compresses what goes to many and a browser whatever it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import WSMsgType, hdrs, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader, WebSocketWriter
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from hub_server.gateway.dashboards import deflate

READ_AHEAD_BYTES: Final = 1 << 16
TAKEN_MAX_BYTES: Final = 256
"""What is taken counts for nothing in what is read ahead. A thousand texts of 256 KiB, compressed, come in one read."""
TEXT: Final = WSMsgType.TEXT.value

Taker = Callable[[str], bool]


class DashboardSocket(web.WebSocketResponse):
    """Agrees to permessage-deflate, and compresses nothing by itself: `takes_compressed` frames are given whole.

    `taker` is offered each short text as it is read, and no task is woken for those it takes. It must raise nothing.
    """

    takes_compressed = False

    def __init__(self, taker: Taker, **options: Any) -> None:
        super().__init__(**options)
        self._taker = taker

    def _handshake(self, request: BaseRequest) -> tuple[CIMultiDict[str], str | None, int, bool]:
        headers, protocol, _, _ = super()._handshake(request)
        offers = ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ()))
        self.takes_compressed = deflate.is_offered(offers)
        if self.takes_compressed:
            headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = deflate.AGREED
        return headers, protocol, 0, False

    def _post_start(self, request: BaseRequest, protocol: str | None, writer: WebSocketWriter) -> None:
        """Do as aiohttp does, with a reader of its own."""
        self._ws_protocol = protocol
        self._writer = writer
        self._reader = _Arrivals(request.protocol, READ_AHEAD_BYTES, loop=asyncio.get_running_loop())
        self._reader.taker = self._taker
        reader = _Reader if self.takes_compressed else WebSocketReader
        self._parser = reader(self._reader, self._max_msg_size, compress=self.takes_compressed, decode_text=True)
        request.protocol.set_parser(self._parser)
        request.protocol.keep_alive(False)


class _Arrivals(WebSocketDataQueue):
    taker: Taker

    def feed_data(self, data: Any, size: int) -> None:
        if data.type is not WSMsgType.TEXT or size > TAKEN_MAX_BYTES or not self.taker(data.data):
            super().feed_data(data, size)


class _Reader(WebSocketReader):
    """Inflates whole messages by itself: aiohttp would keep a window for each client that ever sent one."""

    def __init__(self, queue: WebSocketDataQueue, max_msg_size: int, compress: bool, decode_text: bool) -> None:
        super().__init__(queue, max_msg_size, compress, decode_text)
        self._bytes_max = max_msg_size

    def _handle_frame(self, fin: bool, opcode: int, payload: bytes | bytearray, compressed: int) -> None:
        if compressed and fin and opcode == TEXT:
            payload, compressed = deflate.inflated(payload, self._bytes_max), False
        super()._handle_frame(fin, opcode, payload, compressed)
