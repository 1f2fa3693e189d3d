"""A browser that stops reading costs a bounded amount, delays nobody, and is brought up to date when it reads again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import aiohttp
import pytest

from hub_server.gateway.dashboards import sockets
from hub_server.gateway.dashboards.line import Bounds, Line
from hub_server.gateway.dashboards.rooms import fleet_room
from protocol.enumerations import AlertSeverity, AlertState
from protocol.events import AgentAlert
from tests.hub_server.gateway.dashboards.browser import (
    BINARY,
    DEADLINE_SECONDS,
    TEXT,
    Browser,
    Ended,
    Json,
    browsing,
)
from tests.hub_server.gateway.dashboards.stage import AT, ORGANISATION, Stage, agent

T = TypeVar("T")
KIB: Final = 1024
SMALL: Final = Bounds(
    written_bytes=8 * KIB,
    droppable_bytes=64 * KIB,
    droppable_packets=100,
    held_bytes=160 * KIB,
    held_packets=200,
    kernel_bytes=4 * KIB,
)
AGENTS: Final = 10
PADDING: Final = "x" * 2000
FRAME_BYTES: Final = AGENTS * 2200
ROUNDS: Final = 100


class World:
    """Ten machines, one browser that stops reading and one that goes on, both watching all machines."""

    def __init__(self, stage: Stage, stalled: Browser, line: Line, reading: Browser) -> None:
        self.stage = stage
        self.stalled = stalled
        self.line = line
        self.reading = reading
        self.value = 0

    async def next_tick(self) -> None:
        """All machines say something new, and who reads has read it. Who does not confirms it all the same."""
        self.value += 1
        say_all(self.stage, self.value)
        self.stage.tick()
        frame = await self.reading.take("agents:metrics", lambda frame: is_newest(frame, self.value))
        for one in (self.reading, self.stalled):
            one.tell("feed:ack", {"version": frame["version"]})

    async def until_it_is_taken_out(self) -> None:
        for _ in range(ROUNDS):
            await self.next_tick()
            if self.stage.feed.laggards:
                return
        raise AssertionError("frames are queued without a bound")


def say_all(stage: Stage, value: int) -> None:
    for agent_id in stage.fleet.agents(ORGANISATION):
        stage.fleet.say(agent_id, {"cpu_percent": float(value), "note": PADDING})


def is_newest(frame: Json, value: int) -> bool:
    return bool(frame["samples"]) and frame["samples"][-1]["metricData"]["cpu_percent"] == value


def alert(number: int) -> AgentAlert:
    return AgentAlert(
        agent_id="a0",
        alert_id=str(number),
        type="cpu",
        severity=AlertSeverity.WARNING,
        message=PADDING,
        state=AlertState.OPEN,
        at=AT,
    )


def a_stage() -> Stage:
    stage = Stage(SMALL)
    stage.fleet.add(*(agent(f"a{number}") for number in range(AGENTS)))
    return stage


async def subscribed(one: Browser) -> None:
    assert (await one.ask("feed:subscribe", {}))["ok"]


async def meanwhile(stage: Stage, awaited: Awaitable[T]) -> T:
    """Return what is awaited; the feed's ticks and the server's sweeps go on."""
    task = asyncio.ensure_future(awaited)
    while not task.done():
        stage.tick()
        await stage.server.sweep()
        await asyncio.sleep(0)
    return await task


async def test_frames_for_a_browser_that_does_not_read_are_bounded_and_it_gets_a_snapshot_when_it_reads() -> None:
    stage = a_stage()
    async with stage.running(), browsing(stage.port) as stalled:
        await subscribed(stalled)
        line = stage.line()
        async with browsing(stage.port) as reading:
            await subscribed(reading)
            world = World(stage, stalled, line, reading)
            await world.until_it_is_taken_out()
            for _ in range(ROUNDS // 2):
                await world.next_tick()
                assert line.bytes_held <= SMALL.droppable_bytes + FRAME_BYTES
            assert line.is_stuck
            assert stage.server.cut_count == 0
            back = await meanwhile(
                stage, stalled.take("agents:metrics", lambda frame: frame["snapshot"] and is_newest(frame, world.value))
            )
            assert len(back["samples"]) == AGENTS
            await world.next_tick()
            await stalled.take("agents:metrics", lambda frame: is_newest(frame, world.value))


async def test_what_the_list_missed_is_made_up_for_and_no_alert_is_lost() -> None:
    stage = a_stage()
    async with stage.running(), browsing(stage.port) as stalled:
        line = stage.line()
        async with browsing(stage.port) as reading:
            room = fleet_room(ORGANISATION)
            for _ in range(ROUNDS):
                delta = stage.announcer.status(ORGANISATION)
                stage.lines.tell(delta, room)
                await reading.take("agents:status")
                if line.has_missed:
                    break
            assert line.has_missed
            for number in range(3):
                stage.lines.tell(alert(number), room)
            stage.fleet.add(agent("new"))
            for number in range(3):
                assert (await meanwhile(stage, stalled.take("agent:alert")))["alertId"] == str(number)
            again = await meanwhile(stage, stalled.take("agents:status", lambda status: status["total"] == AGENTS + 1))
            assert not again["delta"]
            assert not line.has_missed


async def test_a_browser_that_leaves_too_many_alerts_unread_is_cut_off_and_others_are_not() -> None:
    stage = a_stage()
    async with stage.running(), browsing(stage.port) as stalled:
        line = stage.line()
        async with browsing(stage.port) as reading:
            for number in range(SMALL.held_packets + ROUNDS):
                stage.lines.tell(alert(number), fleet_room(ORGANISATION))
                assert (await reading.take("agent:alert"))["alertId"] == str(number)
                assert line.bytes_held <= SMALL.held_bytes + len(PADDING) + KIB
            assert line.is_over
            await stage.server.sweep()
            assert (stage.server.cut_count, stage.server.client_count) == (1, 1)
            with pytest.raises(Ended):
                await stalled.take("agent:alert", lambda event: event["alertId"] == "-1")
            await subscribed(reading)


async def test_a_connection_that_outlives_its_client_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits for ever until what it has written is read, as when a ping was not answered."""
    monkeypatch.setattr(sockets, "LEFTOVER_SECONDS", -1.0)
    stage = a_stage()
    async with stage.running(), browsing(stage.port) as stalled:
        line = stage.line()
        while not line.is_stuck:
            stage.lines.tell(alert(0), fleet_room(ORGANISATION))
            await asyncio.sleep(0)
        (engine_socket,) = stage.sockets.server.eio.sockets.values()
        await engine_socket.close(wait=False, abort=False, reason="ping timeout")
        assert line.transport is not None
        assert not line.transport.is_closing()
        await stage.server.sweep()
        assert line.transport.is_closing()
        with pytest.raises(Ended):
            await stalled.hear(lambda _: False)


async def test_a_client_that_does_not_poll_is_bounded_and_gets_a_snapshot_when_it_polls() -> None:
    stage = a_stage()
    async with stage.running(), aiohttp.ClientSession(f"http://127.0.0.1:{stage.port}") as http:
        polled = await polling(http)
        line = stage.line()
        for value in range(1, ROUNDS):
            say_all(stage, value)
            stage.tick()
            await posted(http, polled, f'42["feed:ack",{{"version":{value}}}]')
            assert line.bytes_held <= SMALL.droppable_bytes + FRAME_BYTES
        assert stage.feed.laggards
        frames = await frames_in(http, polled)
        assert len(frames) < ROUNDS // 2
        (back,) = await meanwhile(stage, frames_in(http, polled))
        assert back["snapshot"]
        assert is_newest(back, ROUNDS - 1)


async def polling(http: aiohttp.ClientSession) -> dict[str, str]:
    """Sign in by polling and watch; returns what each request says."""
    polled = {"EIO": "4", "transport": "polling"}
    async with http.get("/ws/agents/", params=polled) as opened:
        polled["sid"] = json.loads((await opened.text())[1:])["sid"]
    await posted(http, polled, '40{"token":"any"}')
    await posted(http, polled, '42["feed:subscribe",{}]')
    await frames_in(http, polled)
    return polled


async def posted(http: aiohttp.ClientSession, polled: dict[str, str], packet: str) -> None:
    async with http.post("/ws/agents/", params=polled, data=packet) as answer:
        assert await answer.text() == "OK"


async def frames_in(http: aiohttp.ClientSession, polled: dict[str, str]) -> list[dict[str, Any]]:
    async with http.get("/ws/agents/", params=polled) as answer:
        packets = (await answer.text()).split("\x1e")
    return [json.loads(packet[2:])[1] for packet in packets if packet.startswith('42["agents:metrics"')]


@pytest.mark.parametrize(
    "text", ['451-["feed:ack",{"_placeholder":true,"num":0}]', '461-7[{"_placeholder":true,"num":0}]']
)
async def test_attachments_end_the_connection(text: str) -> None:
    await assert_ends(text, TEXT)


async def test_a_binary_message_ends_the_connection() -> None:
    await assert_ends("attachment", BINARY)


async def assert_ends(text: str, opcode: int) -> None:
    stage = a_stage()
    async with stage.running():
        async with browsing(stage.port) as one:
            one.send(text, opcode)
            with pytest.raises(Ended):
                await one.hear(lambda _: False)
        await gone(stage)


async def test_a_binary_packet_by_polling_ends_the_session() -> None:
    stage = a_stage()
    async with stage.running(), aiohttp.ClientSession(f"http://127.0.0.1:{stage.port}") as http:
        polled = await polling(http)
        await posted(http, polled, "bAAAA")
        await gone(stage)


async def gone(stage: Stage) -> None:
    """Return once the hub has no client any more."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while stage.server.client_count:  # noqa: ASYNC110  nobody says so
            await asyncio.sleep(0)
