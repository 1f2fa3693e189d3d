from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_client.spool.database import Database
from agent_client.spool.ledger import Stream
from agent_client.spool.spool import Spool, SpoolBound
from agent_client.transport.streams import Outflow, StreamSender
from protocol.frames import AgentFrame, Event, Metrics
from tests.agent_client.clock import SteppingClock


class Line:
    """A spool, and what its sender puts on the wire."""

    def __init__(self, folder: Path) -> None:
        self.clock = SteppingClock()
        self.database = Database(folder / "spool.db")
        self.spool = Spool(self.database, self.clock, SpoolBound(2**26, 72 * 3600))
        self.sent: list[list[int]] = []
        self.lanes: list[str] = []
        self.arrived = asyncio.Condition()

    async def send(self, frame: AgentFrame) -> None:
        assert isinstance(frame, Metrics | Event)
        self.lanes.append("events" if isinstance(frame, Event) else frame.lane.value)
        self.sent.append([frame.seq] if isinstance(frame, Event) else [sample.seq for sample in frame.samples])
        async with self.arrived:
            self.arrived.notify_all()

    @asynccontextmanager
    async def sending(self, stream: Stream, window: int, ack_timeout: float = 30) -> AsyncIterator[StreamSender]:
        sender = self.sender(stream, window, ack_timeout)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Outflow([sender], self.spool.news, ack_timeout).run(), name="sender")
            yield sender
            task.cancel()

    def sender(self, stream: Stream, window: int, ack_timeout: float = 30) -> StreamSender:
        return StreamSender(stream, self.spool, self.send, self.clock, window=window, ack_timeout_seconds=ack_timeout)

    def add(self, count: int = 1, stream: Stream = "live") -> None:
        if stream != "events":
            self.spool.append_samples(stream, self.clock.now_ms(), [("system", {"cpu_percent": 1.0})] * count)
            return
        for _ in range(count):
            self.spool.append_event("something", {})

    async def frames(self, count: int) -> list[list[int]]:
        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: len(self.sent) >= count)
        return self.sent

    def times(self, sequence: int) -> int:
        """Return in how many frames it was."""
        return sum(sequence in frame for frame in self.sent)

    async def said(self, sequence: int, times: int = 1) -> None:
        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: self.times(sequence) >= times)

    def ack(self, sender: StreamSender, *sequences: int, credits: int | None = None) -> None:
        ranges = [(sequence, sequence) for sequence in sequences]
        sender.acknowledged(self.spool.epoch(sender.stream), ranges, credits)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path)
    yield line
    line.database.close()


async def test_no_more_frames_are_in_flight_than_the_hub_allows_and_an_acknowledgement_sets_that_anew(
    line: Line,
) -> None:
    line.add(500)
    async with line.sending("live", window=1) as sender:
        assert await line.frames(1) == [list(range(1, 201))]
        line.ack(sender, *range(1, 200))
        await asyncio.sleep(0)
        assert len(line.sent) == 1
        line.ack(sender, 200, credits=2)
        assert (await line.frames(3))[1:] == [list(range(201, 401)), list(range(401, 501))]


async def test_what_the_hub_is_silent_about_comes_again_though_it_acknowledges_the_rest(line: Line) -> None:
    async with line.sending("live", window=8, ack_timeout=300) as sender:
        line.add()
        await line.said(1)
        for sequence in range(2, 6):
            line.clock.ahead_seconds += 90
            line.add()
            await line.said(sequence)
            line.ack(sender, sequence)
        await line.said(1, times=2)
    assert [line.times(sequence) for sequence in range(1, 6)] == [2, 1, 1, 1, 1]


async def test_without_any_credit_nothing_is_sent_until_the_hub_gives_one(line: Line) -> None:
    line.add(3)
    sender = line.sender("live", window=0)
    assert not await sender.send_next()
    sender.acknowledged(line.spool.epoch("live"), [], 1)
    assert await sender.send_next()
    line.add()
    assert not await sender.send_next()
    sender.acknowledged(line.spool.epoch("live"), [(1, 3)], 0)
    assert not await sender.send_next()
    assert line.sent == [[1, 2, 3]]


async def test_after_a_long_silence_one_frame_is_tried_without_credit_however_many_samples_are_taken(
    line: Line,
) -> None:
    sender = line.sender("live", window=0, ack_timeout=30)
    for _ in range(6):
        line.add()
        assert not await sender.send_next()
        line.clock.ahead_seconds += 9
    line.clock.ahead_seconds += 9
    assert await sender.send_next()
    assert not await sender.send_next()
    assert line.sent == [[1, 2, 3, 4, 5, 6]]


async def test_what_a_silent_hub_is_sent_again_is_half_as_much_until_it_speaks(line: Line) -> None:
    line.add(800)
    sender = line.sender("live", window=4, ack_timeout=30)
    while await sender.send_next():
        pass
    line.clock.ahead_seconds += 31
    while await sender.send_next():
        pass
    assert [sequences[0] for sequences in line.sent] == [1, 201, 401, 601, 1, 201]
    sender.acknowledged(line.spool.epoch("live"), [(1, 400)], 4)
    while await sender.send_next():
        pass
    assert [sequences[0] for sequences in line.sent[6:]] == [401, 601]


async def test_live_samples_go_before_events_and_those_before_history(line: Line) -> None:
    line.add(500, "backfill")
    line.add(2, "events")
    line.add(300)
    senders = [line.sender(stream, window=8) for stream in ("backfill", "events", "live")]
    outflow = Outflow(senders, line.spool.news, 30)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outflow.run(), name="outflow")
        await line.frames(5)
        line.add()
        await line.frames(6)
        await line.frames(8)
        task.cancel()
    assert line.lanes[:6] == ["live", "live", "events", "events", "backfill", "live"]
    assert line.lanes[6:] == ["backfill", "backfill"]


async def test_events_go_one_a_frame_and_in_order(line: Line) -> None:
    line.add(3, "events")
    async with line.sending("events", window=2) as sender:
        assert await line.frames(2) == [[1], [2]]
        line.ack(sender, 1)
        assert await line.frames(3) == [[1], [2], [3]]


async def test_an_acknowledgement_of_another_epoch_changes_nothing(line: Line) -> None:
    line.add(2)
    async with line.sending("live", window=1) as sender:
        await line.frames(1)
        sender.acknowledged(line.spool.epoch("live") + 1, [(1, 2)], 1)
        assert line.spool.waiting()["live"] == 2
