"""The load generator's own WebSocket, against a server that is not ours."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import socketio
from aiohttp import web
from aiohttp.test_utils import TestServer
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from hub_server.bench.agent import SimulatedAgent
from hub_server.bench.orders import Pressure
from hub_server.bench.tally import Tally
from hub_server.bench.websocket import ClientSocket
from protocol.codec import decode_agent_frame, encode
from protocol.frames import AgentFrame, Metrics, MetricsAck, Welcome
from protocol.limits import AGENT_SOCKET_PATH, DASHBOARD_SOCKET_PATH, SUBPROTOCOL
from scripts.load.crowd import crowd
from scripts.load.plans import Crowd

DEADLINE_SECONDS = 60.0


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.socket: asyncio.Future[ClientSocket] = asyncio.get_running_loop().create_future()
        self.texts: asyncio.Queue[bytes] = asyncio.Queue(maxsize=100)
        self.ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def opened(self, socket: ClientSocket) -> None:
        self.socket.set_result(socket)

    def received(self, text: bytes) -> None:
        self.texts.put_nowait(text)

    def closed(self, code: int, reason: str) -> None:
        self.ending.set_result((code, reason))


async def echo(connection: ServerConnection) -> None:
    """Send back what comes; close when asked, after a ping that must be answered."""
    async for message in connection:
        if message == "close":
            await (await connection.ping())
            await connection.close(4403, "revoked")
            return
        await connection.send(message)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve(echo, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=1 << 20) as server:
        yield server


async def connected(port: int) -> Heard:
    heard = Heard()
    await asyncio.get_running_loop().create_connection(lambda: ClientSocket(heard), "127.0.0.1", port)
    return heard


def port_of(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
async def test_frames_of_every_length_come_back_whole(server: Server, size: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        heard = await connected(port_of(server))
        socket = await heard.socket
        socket.send(b"x" * size)
        socket.send("ende ✓".encode())
        assert await heard.texts.get() == b"x" * size
        assert (await heard.texts.get()).decode() == "ende ✓"
        socket.abort()
        await heard.ending


async def test_a_ping_is_answered_and_a_close_is_told_with_its_code(server: Server) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        heard = await connected(port_of(server))
        (await heard.socket).send(b"close")
        assert await heard.ending == (4403, "revoked")


async def test_a_refused_upgrade_is_told_and_no_open_socket() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(f"GET {AGENT_SOCKET_PATH} ".encode())
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with asyncio.timeout(DEADLINE_SECONDS):
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            heard = await connected(server.sockets[0].getsockname()[1])
            _, reason = await heard.ending
            assert "401" in reason
            assert not heard.socket.done()


class Wire:
    """A socket that keeps what an agent says."""

    def __init__(self) -> None:
        self.said: list[AgentFrame] = []

    def send(self, text: bytes) -> None:
        self.said.append(decode_agent_frame(text))

    @property
    def frames(self) -> list[Metrics]:
        return [frame for frame in self.said if isinstance(frame, Metrics)]


async def pressed(in_flight: int, credits: int) -> tuple[SimulatedAgent, Wire, Tally]:
    tally, wire = Tally(), Wire()
    pressure = Pressure(samples_per_frame=3, frames_per_second=10.0, in_flight=in_flight)
    agent = SimulatedAgent(1, tally, silent=False, values="seed", pressure=pressure)
    agent.opened(cast("ClientSocket", wire))
    agent.received(encode(welcome(credits)))
    for _ in range(5):
        agent.press()
    return agent, wire, tally


def welcome(credits: int) -> Welcome:
    return Welcome(
        protocol=1,
        session_id="s",
        server_time_ms=1,
        next_heartbeat_sec=30,
        sample_interval_sec=10,
        credits={"live": credits, "backfill": 1},
        acks={},
        jobs=[],
        desired={},
    )


@pytest.mark.parametrize(("in_flight", "credits", "sent"), [(2, 8, 2), (4, 1, 1)])
async def test_pressure_stops_at_what_is_on_its_way_or_at_the_credits(in_flight: int, credits: int, sent: int) -> None:
    agent, wire, _ = await pressed(in_flight, credits)
    assert len(wire.frames) == sent
    assert agent.is_waiting


async def test_an_acknowledgement_counts_its_samples_and_lets_the_next_frame_go() -> None:
    agent, wire, tally = await pressed(in_flight=1, credits=8)
    (frame,) = wire.frames
    sequences = [sample.seq for sample in frame.samples]
    ack = MetricsAck(epoch=frame.epoch, lane=frame.lane, ranges=[(sequences[0], sequences[-1])], credits=8)
    agent.received(encode(ack))
    assert (tally.answered, tally.samples, tally.sent_samples) == (1, 3, 3)
    assert not agent.is_waiting
    agent.press()
    assert [sample.seq for sample in wire.frames[1].samples] == [4, 5, 6]
    times = [sample.ts for frame in wire.frames for sample in frame.samples]
    assert sorted(set(times)) == times


async def test_an_agent_that_lost_its_connection_waits_for_nothing_and_begins_anew() -> None:
    agent, _, tally = await pressed(in_flight=2, credits=8)
    agent.closed(1006, "gone")
    assert not agent.is_waiting
    assert not agent.is_connected
    agent.begin_anew()
    assert not agent.welcome.done()
    assert tally.problems["closed 1006: gone"] == 1


async def test_an_onlooker_signs_in_watches_and_confirms_as_often_as_it_is_asked_to(tmp_path: Path) -> None:
    confirmed: asyncio.Queue[int] = asyncio.Queue(maxsize=10)
    asked: list[dict[str, Any]] = []
    server = socketio.AsyncServer(async_mode="aiohttp")

    async def connect(_sid: str, _environ: Any, auth: Any) -> None:
        asked.append(auth)

    async def subscribe(sid: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body)
        await server.enter_room(sid, "view")
        return {"ok": True, "version": 0, "agentIds": [], "confirmEvery": 2}

    async def ack(_sid: str, body: dict[str, Any]) -> None:
        await confirmed.put(body["version"])

    for name, handler in (("connect", connect), ("feed:subscribe", subscribe), ("feed:ack", ack)):
        server.on(name, handler)
    application = web.Application()
    server.attach(application, socketio_path=DASHBOARD_SOCKET_PATH)
    frame, tally = tmp_path / "batch.txt", Tally()
    async with asyncio.timeout(DEADLINE_SECONDS), TestServer(application) as listening:
        plan = Crowd(f"http://127.0.0.1:{listening.port}", "t", 2, 5, ("cpu_percent",), frame_file=str(frame))
        async with crowd(plan, tally) as ready:
            assert ready.done == 2
            samples = [{"agentId": "a"}, {"agentId": "b"}]
            await server.emit("agents:metrics", {"version": 7, "samples": samples, "snapshot": True}, to="view")
            for version in (8, 9):
                await server.emit("agents:metrics", {"version": version, "samples": samples}, to="view")
            versions = [await confirmed.get() for _ in range(4)]
        await server.shutdown()
    assert sorted(versions) == [7, 7, 9, 9]
    assert (tally.answered, tally.samples) == (4, 8)
    assert asked.count({"token": "t"}) == 2
    assert {"limit": 5, "offset": 0, "metrics": ["cpu_percent"]} in asked
    assert b'"version":8' in frame.read_bytes()
