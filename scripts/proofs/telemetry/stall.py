"""A browser that stops reading for five minutes under load costs the hub a bounded amount, and is then up to date."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from hub_server.bench.muster import connected, enroll
from hub_server.bench.orders import Connect
from hub_server.bench.processes import live_memory_of
from hub_server.telemetry.day_files.packer import CLOSING_GRACE_MS
from protocol.limits import DASHBOARD_SOCKET_PATH
from scripts.load.person import Person, dashboard
from scripts.measures.hub import Hub
from scripts.proofs.report import Report
from scripts.proofs.telemetry.fleet import HUB

AGENTS: Final = 1000
SAMPLE_SECONDS: Final = 2.0
IN_VIEW: Final = 1000
STALLED_SECONDS: Final = 300.0
SETTLED_SECONDS: Final = 120.0
SETTLED_MAX_BYTES: Final = 500_000
SETTLING_MAX_SECONDS: Final = 1500.0
HOUR_SECONDS: Final = 3600.0
CLOSING_SECONDS: Final = 240.0
PONG_SECONDS: Final = 10.0
GROWTH_MAX_BYTES: Final = 2_000_000
FRESH_SECONDS: Final = 30.0
RECEIVE_BUFFER_BYTES: Final = 65_536


class Reader:
    """A dashboard that reads everything, and confirms it as often as the hub asks for."""

    def __init__(self) -> None:
        self.batches = 0
        self.person: Person | None = None

    async def batch(self, body: Any) -> None:
        self.batches += 1
        if self.person is not None:
            await self.person.confirm(body)


class Browser:
    """A socket of its own making, which can stop reading; pings it answers all the same, as a stuck page may."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, token: str) -> None:
        self._socket = socket
        self._token = token
        self._asked = 0

    async def begin(self) -> None:
        """Sign in and watch all agents; return once the snapshot is here."""
        await self._socket.send_str("40" + _json({"token": self._token}))
        await self.until(lambda text: text.startswith("40"))
        await self._do("feed:subscribe", {"limit": IN_VIEW})
        await self.until(_is_snapshot)

    async def pong(self) -> None:
        await self._socket.send_str("3")

    async def until(self, match: Any) -> str:
        """Read, and confirm batches, until a message matches. Raises ConnectionError when the hub has cut it off."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            text: str = message.data
            if text == "2":
                await self.pong()
            if match(text):
                return text
            if (batch := _batch_in(text)) is not None:
                await self._do("feed:ack", {"version": batch["version"]})
        raise ConnectionError("the hub cut the browser off")

    async def _do(self, operation: str, body: Any) -> None:
        self._asked += 1
        await self._socket.send_str(f"42{self._asked}" + _json([operation, body]))


async def show(report: Report) -> None:
    words = "a browser stalled for 5 minutes under load: the hub grows by 2 MB at most, then it is up to date"
    await report.show(words, full)


async def full() -> str:
    """Return what was measured. Raises AssertionError when the hub grew too much or the browser stays behind."""
    async with loaded_hub(AGENTS) as hub:
        token, reader = await hub.access_token(), Reader()
        async with dashboard(hub.web_url, token, {"agents:metrics": reader.batch}) as person:
            reader.person = person
            await person.ask("feed:subscribe", limit=IN_VIEW)
            settling = f"after {await settled(hub):.0f} s of settling"
            grown, seen = await stalled(hub, token, reader)
    assert grown <= GROWTH_MAX_BYTES, f"{settling}; {seen}"
    return f"{settling}; {seen}"


async def stalled(hub: Hub, token: str, reader: Reader) -> tuple[int, str]:
    """Return by how many bytes the hub grew while a browser did not read, and the figures in words."""
    began = await written_bytes_of(hub)
    async with browsing(hub, token) as browser:
        await browser.begin()
        batches = reader.batches
        for _ in range(int(STALLED_SECONDS / PONG_SECONDS)):
            await asyncio.sleep(PONG_SECONDS)
            await browser.pong()
        grown = await written_bytes_of(hub) - began
        held = (await hub.metrics())["jtnt_dashboard_held_bytes_max", ""]
        others = reader.batches - batches
        how = await back(browser, hub, token)
    assert others >= STALLED_SECONDS, f"another dashboard got {others} batches in {STALLED_SECONDS:.0f} s"
    return grown, (
        f"hub grew by {grown / 1e6:.2f} MB in {STALLED_SECONDS:.0f} s with a stalled browser; "
        f"{held / 1e3:.0f} KB at most were held for one browser; the other dashboard got {others} batches; {how}"
    )


async def settled(hub: Hub) -> float:
    """Return after how many seconds the hub has packed and has stopped growing, or SETTLING_MAX_SECONDS.

    What packing takes for its work stays with the hub for the next time: a hub that has not packed what came in minutes
    is not at its size. It packs the first few samples at once, which counts for nothing.
    Closing its first hour adds to it once more, 2.5 MB were seen; the window therefore meets no closing.
    """
    began_at = asyncio.get_running_loop().time()
    seconds, last, hot, has_packed = 0.0, await written_bytes_of(hub), 0.0, False
    while seconds < SETTLING_MAX_SECONDS:
        await asyncio.sleep(SETTLED_SECONDS)
        now, before, hot = await written_bytes_of(hub), hot, await hot_samples_of(hub)
        has_packed = has_packed or hot < before
        seconds = asyncio.get_running_loop().time() - began_at
        if now - last <= SETTLED_MAX_BYTES and has_packed and not closes_soon(time.time()):
            break
        last = now
    return seconds


async def hot_samples_of(hub: Hub) -> float:
    """Return how many samples wait in the hot table until they are packed."""
    return (await hub.metrics())["jtnt_store_hot_samples", ""]


def closes_soon(at_seconds: float) -> bool:
    """Tell whether a window that begins now meets the hub closing an hour."""
    into_hour = (at_seconds - CLOSING_GRACE_MS / 1000) % HOUR_SECONDS
    return into_hour < CLOSING_SECONDS or into_hour + STALLED_SECONDS + FRESH_SECONDS > HOUR_SECONDS


async def written_bytes_of(hub: Hub) -> int:
    return (await live_memory_of(hub.pid)).written_bytes


async def back(browser: Browser, hub: Hub, token: str) -> str:
    """Let the browser read again, or come back where it was cut off; return how it caught up."""
    try:
        async with asyncio.timeout(FRESH_SECONDS):
            await browser.until(_is_snapshot)
    except ConnectionError:
        async with browsing(hub, token) as again, asyncio.timeout(FRESH_SECONDS):
            await again.begin()
        return "it had been cut off, and its new connection began with a snapshot"
    return "reading again it got a snapshot"


@asynccontextmanager
async def loaded_hub(agents: int) -> AsyncIterator[Hub]:
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-") as name:
        hub = Hub(Path(name) / "hub", HUB)
        await hub.start()
        try:
            await hub.create_administrator()
            identities = Path(name) / "identities"
            await enroll(hub, identities, agents)
            plan = Connect(
                port=hub.agent_port,
                folder=str(identities),
                first=0,
                count=agents,
                per_second=100,
                sample_seconds=SAMPLE_SECONDS,
            )
            async with connected(plan):
                yield hub
        finally:
            await hub.stop()


@asynccontextmanager
async def browsing(hub: Hub, token: str) -> AsyncIterator[Browser]:
    url = f"{hub.web_url}/{DASHBOARD_SOCKET_PATH.strip('/')}/?EIO=4&transport=websocket"
    connector = aiohttp.TCPConnector()
    async with (
        aiohttp.ClientSession(connector=connector, read_bufsize=RECEIVE_BUFFER_BYTES) as session,
        session.ws_connect(url, max_msg_size=0) as socket,
    ):
        yield Browser(socket, token)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _batch_in(text: str) -> dict[str, Any] | None:
    """Return the body of a batch of the feed, None for any other message."""
    if not text.startswith('42["agents:metrics"'):
        return None
    body: dict[str, Any] = msgspec.json.decode(text[2:])[1]
    return body


def _is_snapshot(text: str) -> bool:
    batch = _batch_in(text)
    return batch is not None and bool(batch["snapshot"])
