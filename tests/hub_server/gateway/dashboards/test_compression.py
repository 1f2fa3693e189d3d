"""What goes to many is compressed once, for those who take it; what clients compress is bounded when unfolded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from hub_server.gateway.dashboards.dashboard_socket import TAKEN_MAX_BYTES, DashboardSocket
from hub_server.gateway.dashboards.deflate import is_offered
from hub_server.gateway.dashboards.lines import COMPRESSED_MIN_LINES
from hub_server.gateway.dashboards.message import Message
from protocol.enumerations import OutputStream, TextEncoding
from protocol.events import AgentCommandOutput, AgentsMetrics, DashboardEvent
from protocol.limits import FRAME_MAX_BYTES
from tests.hub_server.gateway.dashboards.browser import CONNECT, DEADLINE_SECONDS, TEXT, Ended, connected
from tests.hub_server.gateway.dashboards.stage import ORGANISATION, Stage, agent

COMPRESSED: Final = 0x40
AGENTS: Final = 30
NOTE: Final = "é" * 200
TAIL: Final = b"\x00\x00\xff\xff"
BATCH: Final = '42["agents:metrics",'


def a_stage() -> Stage:
    stage = Stage()
    stage.fleet.add(*(agent(f"a{number}") for number in range(AGENTS)))
    return stage


def say_all(stage: Stage, value: float) -> None:
    for agent_id in stage.fleet.agents(ORGANISATION):
        stage.fleet.say(agent_id, {"cpu_percent": value, "note": NOTE})
    stage.tick()


@asynccontextmanager
async def watching(
    stage: Stage, count: int, compression: str | None = "deflate"
) -> AsyncIterator[list[ClientConnection]]:
    """So many strict clients, which compress what they send, all on one view; their snapshots are read."""
    async with AsyncExitStack() as stack, asyncio.timeout(DEADLINE_SECONDS):
        clients = []
        for _ in range(count):
            url = f"ws://127.0.0.1:{stage.port}/ws/agents/?EIO=4&transport=websocket"
            client = await stack.enter_async_context(connect(url, compression=compression, proxy=None))
            clients.append(client)
            await client.send(CONNECT)
            await heard(client, "40")
            await client.send('427["feed:subscribe",{}]')
            await heard(client, BATCH)
            await heard(client, "437")
        yield clients


async def heard(client: ClientConnection, start: str) -> str:
    """Return the next text with this start; what comes before it is passed over."""
    while True:
        text = await client.recv(decode=True)
        assert isinstance(text, str)
        if text.startswith(start):
            return text


async def batches(clients: Iterable[ClientConnection]) -> set[str]:
    return {await heard(client, BATCH) for client in clients}


async def test_a_batch_for_many_is_compressed_once_and_who_does_not_take_it_gets_it_plain() -> None:
    stage = a_stage()
    async with (
        stage.running(),
        watching(stage, COMPRESSED_MIN_LINES) as takers,
        watching(stage, 1, None) as plain,
    ):
        traffic = stage.lines.traffic
        for value in (1.5, 2.5):
            before = traffic.bytes_sent
            say_all(stage, value)
            (text,) = await batches([*takers, *plain])
            assert text.count(NOTE) == text.count(f'"cpu_percent":{value}') == AGENTS
            sent = traffic.bytes_sent - before
            assert len(text.encode()) < sent < 2 * len(text.encode())
            await takers[0].send('428["feed:subscribe",{}]')
            await heard(takers[0], BATCH)
            await heard(takers[0], "438")
        assert traffic.messages_compressed == 2 * COMPRESSED_MIN_LINES


async def test_a_batch_for_few_is_not_compressed() -> None:
    stage = a_stage()
    async with stage.running(), watching(stage, COMPRESSED_MIN_LINES - 1) as few, watching(stage, 1, None) as plain:
        say_all(stage, 1.5)
        await batches([*few, *plain])
        assert stage.lines.traffic.messages_compressed == 0


@pytest.mark.parametrize("pieces", [1, 2])
async def test_a_message_that_unfolds_to_too_much_ends_the_connection(pieces: int) -> None:
    stage = a_stage()
    async with stage.running(), watching(stage, 1) as (client,):
        bomb = "x" * (32 * FRAME_MAX_BYTES)
        await client.send([bomb] * pieces if pieces > 1 else bomb)
        with pytest.raises(ConnectionClosedError) as ended:
            await heard(client, "never")
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1009


async def test_what_is_no_compressed_message_ends_the_connection() -> None:
    stage = a_stage()
    async with stage.running(), connected(stage.port) as one:
        one.send("garbage", COMPRESSED | TEXT)
        with pytest.raises(Ended):
            await one.hear(lambda _: False)


async def test_compression_is_agreed_for_each_message_by_itself() -> None:
    stage = a_stage()
    async with stage.running(), connected(stage.port) as one:
        assert b"permessage-deflate; server_no_context_takeover; client_no_context_takeover" in one.headers


@pytest.mark.parametrize(
    ("extensions", "is_taken"),
    [
        ("", False),
        ("permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits", True),
        ("permessage-deflate; server_no_context_takeover; client_max_window_bits=12", True),
        ("permessage-deflate; server_max_window_bits=10", False),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits=99", False),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", False),
        ("permessage-bzip2, x-webkit-deflate-frame", False),
    ],
)
def test_an_offer_is_taken_unless_it_narrows_what_the_hub_sends(extensions: str, is_taken: bool) -> None:
    assert is_offered(extensions) is is_taken


def test_only_what_goes_to_many_and_is_long_may_be_compressed() -> None:
    output = AgentCommandOutput(
        agent_id="a",
        command_id="c",
        stream=OutputStream.STDOUT,
        offset=0,
        data="x" * 10_000,
        encoding=TextEncoding.UTF8,
    )
    events: list[tuple[DashboardEvent, bool]] = [
        (AgentsMetrics(version=1, samples=[], agent_ids=["a" * 36] * 200), True),
        (AgentsMetrics(version=1, samples=[]), False),
        (output, False),
    ]
    for event, is_compressible in events:
        assert Message(event).is_compressible is is_compressible


def test_the_compressed_frame_says_the_same() -> None:
    message = Message(AgentsMetrics(version=1, samples=[], agent_ids=[f"agent-{number}" for number in range(10_000)]))
    message.compress()
    frame = message.compressed_frame
    assert frame is not None
    assert frame[:2] == bytes((0xC1, 126))
    assert int.from_bytes(frame[2:4]) == len(frame) - 4
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    assert unpacker.decompress(frame[4:] + TAIL).decode() == message.encode()
    assert not unpacker.eof
    assert not frame.endswith(TAIL)


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_what_the_taker_takes_is_not_there_to_be_received(compression: str | None) -> None:
    received: list[str] = []
    padded = "mine".ljust(TAKEN_MAX_BYTES + 1)

    async def listen(request: web.Request) -> web.WebSocketResponse:
        socket = DashboardSocket(lambda text: text.startswith("mine"), max_msg_size=FRAME_MAX_BYTES)
        await socket.prepare(request)
        async for message in socket:
            received.append(message.data)
            await socket.send_str("heard")
        return socket

    application = web.Application()
    application.router.add_get("/", listen)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        TestServer(application) as server,
        connect(f"ws://127.0.0.1:{server.port}/", compression=compression, proxy=None) as client,
    ):
        for text in ("mine 1", "other", "mine 2", padded):
            await client.send(text)
        assert [await client.recv() for _ in range(2)] == ["heard", "heard"]
    assert received == ["other", padded], "what is long is read ahead within bounds"
