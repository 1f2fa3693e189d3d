from __future__ import annotations

import asyncio
from typing import Any, cast

from hub_server.gateway.dashboards.line import Bounds, Line, Traffic
from hub_server.gateway.dashboards.message import Message
from protocol.events import AgentMetrics, AgentsMetrics
from tests.hub_server.gateway.dashboards.browser import browsing
from tests.hub_server.gateway.dashboards.stage import Stage

MESSAGE = Message(AgentMetrics(agent_id="a", metric_type="system", metric_data={"note": "é"}, timestamp=1))


class Wire:
    """A WebSocket and its transport in one, which takes all."""

    def __init__(self) -> None:
        self.is_open = True
        self.takes_compressed = False
        self.frames: list[bytes] = []
        self.is_gone = False

    def is_closing(self) -> bool:
        return self.is_gone

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    def get_write_buffer_size(self) -> int:
        return 0


def a_line() -> tuple[Line, Wire]:
    line, wire = Line(Bounds(), Traffic()), Wire()
    line.joined(wire, cast("Any", wire))
    return line, wire


async def test_a_message_does_not_overtake_what_was_put_before_it() -> None:
    line, wire = a_line()
    writer = asyncio.ensure_future(line.get())
    await asyncio.sleep(0)
    first = Message(AgentsMetrics(version=1, samples=[]))
    line.put_nowait(first)
    assert line.send(MESSAGE)
    assert not wire.frames
    assert [await writer, line.get_nowait()] == [first, MESSAGE]


async def test_a_message_is_written_at_once_when_nothing_is_before_it() -> None:
    line, wire = a_line()
    assert line.send(MESSAGE)
    assert not wire.frames
    assert await line.get() is MESSAGE
    writer = asyncio.ensure_future(line.get())
    await asyncio.sleep(0)
    assert line.send(MESSAGE)
    assert wire.frames == [MESSAGE.frame]
    wire.is_open = False
    assert line.send(MESSAGE)
    assert wire.frames == [MESSAGE.frame]
    assert await writer is MESSAGE


async def test_nothing_is_written_to_a_transport_that_is_gone_before_its_websocket_knows() -> None:
    line, wire = a_line()
    writer = asyncio.ensure_future(line.get())
    await asyncio.sleep(0)
    wire.is_gone = True
    assert line.send(MESSAGE)
    assert not wire.frames
    assert await writer is MESSAGE


async def test_a_compressed_frame_is_for_those_who_take_it_and_counts_as_what_it_is() -> None:
    traffic = Traffic()
    message = Message(AgentsMetrics(version=1, samples=[], agent_ids=["a"] * 2000))
    message.compress()
    taken = []
    for takes_compressed in (False, True):
        line, wire = Line(Bounds(), traffic), Wire()
        wire.takes_compressed = takes_compressed
        line.joined(wire, cast("Any", wire))
        writer = asyncio.ensure_future(line.get())
        await asyncio.sleep(0)
        assert line.send(message)
        writer.cancel()
        taken += wire.frames
    assert taken == [message.frame, message.compressed_frame]
    assert (traffic.messages_sent, traffic.messages_compressed) == (2, 1)
    assert traffic.bytes_sent == sum(map(len, taken)) < 1.1 * len(message.frame)


def test_the_frame_and_the_packet_say_the_same() -> None:
    for length in (1, 200, 70_000):
        message = Message(AgentMetrics(agent_id="a" * length, metric_type="é", metric_data={}, timestamp=1))
        text = message.encode()
        assert text.startswith('42["agent:metrics",{"agentId":"a')
        assert message.frame.endswith(text.encode())
        assert message.frame[0] == 0x81


async def test_a_confirmation_is_taken_past_the_library_and_nothing_else_is() -> None:
    stage = Stage()
    async with stage.running(), browsing(stage.port):
        line = stage.line()
        assert line.confirms('42["feed:ack",{"version":1}]')
        for text in (
            '427["feed:ack",{"version":1}]',
            '42["feed:ack",{"version":-1}]',
            '42["feed:ack",{"version":1},1]',
            '42["feed:ack"]',
            '42["feed:subscribe",{}]',
            "3",
        ):
            assert not line.confirms(text)
        stage.access.standings.end(stage.access.open)
        assert not line.confirms('42["feed:ack",{"version":1}]')


def test_a_poll_that_comes_after_the_websocket_opened_does_not_take_its_place() -> None:
    line, wire = a_line()
    line.polled(cast("Any", Wire()))
    assert line.transport is cast("Any", wire)
    polling = Line(Bounds(), Traffic())
    polling.polled(cast("Any", wire))
    assert polling.transport is cast("Any", wire)
