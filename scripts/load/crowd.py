"""Many light dashboards on one view: they speak just enough Engine.IO and Socket.IO to watch, confirm and stay.

No JSON is decoded: a frame of 200 samples for 200 dashboards five times a second would make this process the
bottleneck. The version is read where it stands, at the beginning of the batch.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from hub_server.bench.fleet import at_once
from hub_server.bench.hub import blind_context
from hub_server.bench.orders import Ready
from hub_server.bench.tally import Tally
from hub_server.bench.websocket import ClientSocket
from protocol.limits import DASHBOARD_SOCKET_PATH
from scripts.load.plans import Crowd

TARGET: Final = f"{DASHBOARD_SOCKET_PATH}/?EIO=4&transport=websocket"
OPEN_DEADLINE_SECONDS: Final = 20.0
AT_ONCE: Final = 16
HEAD_BYTES: Final = 200
HTTP_PORT: Final = 80
BATCH: Final = b'42["agents:metrics",'
SAMPLE: Final = b'"agentId"'
SNAPSHOT: Final = b'"snapshot":true'
_VERSION: Final = re.compile(rb'"version":(\d+)')
_CONFIRM_EVERY: Final = re.compile(rb'"confirmEvery":(\d+)')


class Onlooker:
    """One dashboard: signs in, asks for the view, confirms its batches as often as it is told to."""

    __slots__ = (
        "_confirm_every",
        "_confirmed",
        "_frame_file",
        "_largest_bytes",
        "_socket",
        "_subscribe",
        "_tally",
        "_token",
        "watching",
    )

    def __init__(self, plan: Crowd, tally: Tally, frame_file: str) -> None:
        self.watching: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._token = msgspec.json.encode({"token": plan.token}).decode()
        view = msgspec.json.encode({"limit": plan.agents, "offset": 0, "metrics": plan.metrics})
        self._subscribe = b'420["feed:subscribe",%b]' % view
        self._tally = tally
        self._frame_file = frame_file
        self._largest_bytes = 0
        self._confirm_every = 1
        self._confirmed = 0
        self._socket: ClientSocket | None = None

    def opened(self, socket: ClientSocket) -> None:
        self._socket = socket

    def closed(self, code: int, reason: str) -> None:
        self._socket = None
        self._tally.problems[f"closed {code}: {reason}"] += 1
        if not self.watching.done():
            self.watching.set_exception(ConnectionError(reason))
            self.watching.exception()

    def received(self, text: bytes) -> None:
        if text.startswith(BATCH):
            self._batch(text)
        elif text == b"2":
            self._say(b"3")
        elif text.startswith(b"0{"):
            self._say(f"40{self._token}".encode())
        elif text.startswith(b"40"):
            self._say(self._subscribe)
        elif text.startswith(b"430[") and b'"ok":true' in text:
            self._watches(text)
        elif text.startswith((b"44", b"41", b"430[")):
            self._tally.problems[text[:HEAD_BYTES].decode(errors="replace")] += 1

    def _watches(self, reply: bytes) -> None:
        asked = _CONFIRM_EVERY.search(reply)
        if asked is not None:
            self._confirm_every = int(asked[1])
        if not self.watching.done():
            self.watching.set_result(None)

    def _batch(self, text: bytes) -> None:
        found = _VERSION.search(text)
        if found is None:
            self._tally.problems["a batch without a version"] += 1
            return
        is_snapshot = SNAPSHOT in text
        self._confirm(int(found[1]), at_once=is_snapshot)
        if is_snapshot or self._socket is None:
            return
        self._tally.answered += 1
        self._tally.samples += text.count(SAMPLE)
        self._tally.received_bytes += len(text)
        self._tally.wire_bytes += self._socket.message_bytes
        if self._frame_file and len(text) > self._largest_bytes:
            self._largest_bytes = len(text)
            Path(self._frame_file).write_bytes(text)

    def _confirm(self, version: int, *, at_once: bool) -> None:
        if at_once or version >= self._confirmed + self._confirm_every:
            self._confirmed = version
            self._say(b'42["feed:ack",{"version":%d}]' % version)

    def _say(self, packet: bytes) -> None:
        if self._socket is not None:
            self._socket.send(packet)


@asynccontextmanager
async def crowd(plan: Crowd, tally: Tally) -> AsyncIterator[Ready]:
    """Open the dashboards of `plan` for the block."""
    started_at = time.perf_counter()
    sockets: list[ClientSocket] = []

    async def join(index: int) -> None:
        onlooker = Onlooker(plan, tally, plan.frame_file if index == 0 else "")
        async with asyncio.timeout(OPEN_DEADLINE_SECONDS):
            sockets.append(await open_socket(plan.web_url, onlooker))
            await onlooker.watching
        tally.connected += 1

    await at_once(AT_ONCE, range(plan.count), join)
    yield Ready(done=tally.connected, took_seconds=time.perf_counter() - started_at, problems=dict(tally.problems))
    for socket in sockets:
        socket.abort()


async def open_socket(web_url: str, onlooker: Onlooker) -> ClientSocket:
    place = urlsplit(web_url)
    assert place.hostname is not None
    make = partial(ClientSocket, onlooker, target=TARGET, subprotocol="", offers_compression=True)
    _, socket = await asyncio.get_running_loop().create_connection(
        make, place.hostname, place.port or HTTP_PORT, ssl=blind_context() if place.scheme == "https" else None
    )
    return socket
