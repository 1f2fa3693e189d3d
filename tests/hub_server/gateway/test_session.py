"""One agent's connection: its bounds, and that each end has its code and its reason."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import WSMsgType

from hub_server.gateway.agents import session as session_module
from hub_server.gateway.agents.session import AgentSession, SessionEnded
from protocol.codec import encode_text
from protocol.codes import CloseCode
from protocol.enumerations import ConnectionReason, Lane, RefusalAction
from protocol.frames import AgentFrame, CertificateReply, Error, Heartbeat, HubFrame, Metrics, Refuse, Sample
from protocol.limits import FRAMES_BURST, OUTBOX_MAX_BYTES
from tests.hub_server.gateway.peers import FakePeer, Recorded, ending_of, session_with

HEARTBEAT = encode_text(Heartbeat(clock_ms=1, monotonic_ms=1))
SAMPLES = encode_text(
    Metrics(
        epoch=1, lane=Lane.LIVE, samples=[Sample(seq=1, ts=1, metric_type="system", metric_data={"cpu_percent": 1})]
    )
)


def frame_of(size_bytes: int) -> HubFrame:
    return CertificateReply(request_id="r", certificate_pem="x" * size_bytes)


async def test_what_an_agent_does_not_read_is_bounded() -> None:
    peer = FakePeer(unread=True)
    session = session_with(peer)
    for _ in range(100):
        session.send(frame_of(100_000))
    assert session.unsent_bytes <= OUTBOX_MAX_BYTES
    assert len(peer.frames) == OUTBOX_MAX_BYTES // 100_100
    assert await ending_of(session) is ConnectionReason.SLOW_CONSUMER
    assert peer.close_code == CloseCode.SLOW_CONSUMER


async def test_one_frame_larger_than_the_bound_is_not_queued_at_all() -> None:
    peer = FakePeer(unread=True)
    session = session_with(peer)
    session.send(frame_of(OUTBOX_MAX_BYTES + 1))
    assert peer.frames == []
    assert await ending_of(session) is ConnectionReason.SLOW_CONSUMER


async def test_a_peer_that_does_not_answer_the_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CLOSE_DEADLINE_SECONDS", 0.01)
    peer = FakePeer()
    peer.answers_close = False
    session = session_with(peer)
    session.end(SessionEnded(CloseCode.DRAINING, "the hub stops"))
    assert await ending_of(session) is ConnectionReason.HUB_STOPPED
    assert peer.aborted


async def test_an_end_from_outside_wakes_the_reader_and_the_first_one_counts() -> None:
    peer, handler = FakePeer(), Recorded()
    session = session_with(peer)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.run(handler))
        peer.say(HEARTBEAT)
        await handler.came.wait()
        session.end(SessionEnded(CloseCode.REVOKED, "removed"))
        session.end(SessionEnded(CloseCode.SUPERSEDED, "too late"))
    assert running.result() is ConnectionReason.REVOKED
    assert peer.close_code == CloseCode.REVOKED


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        ("{", WSMsgType.TEXT, CloseCode.BAD_FRAME),
        (b"{}", WSMsgType.BINARY, CloseCode.BAD_FRAME),
        ('"' + "x" * 300_000 + '"', WSMsgType.TEXT, CloseCode.TOO_LARGE),
    ],
)
async def test_a_bad_frame_ends_the_session_and_reaches_nobody(said: str | bytes, kind: WSMsgType, code: int) -> None:
    peer, handler = FakePeer(), Recorded()
    peer.say(said, kind)
    assert await ending_of(session_with(peer), handler) is ConnectionReason.PROTOCOL_ERROR
    assert (peer.close_code, handler.frames) == (code, [])


async def test_an_unknown_type_is_answered_and_the_next_frame_is_served() -> None:
    peer, handler = FakePeer(), Recorded()
    peer.say('{"type":"dance"}')
    peer.say(HEARTBEAT)
    peer.go_away()
    assert await ending_of(session_with(peer), handler) is ConnectionReason.CONNECTION_LOST
    (error,) = peer.frames
    assert isinstance(error, Error)
    assert (error.code, error.reply_to) == ("unknown_type", "dance")
    assert len(handler.frames) == 1


async def test_an_agent_that_goes_on_flooding_is_sent_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "FLOOD_SECONDS", 0.0)
    peer, handler = FakePeer(), Recorded()
    for _ in range(FRAMES_BURST + 1):
        peer.say(HEARTBEAT)
    assert await ending_of(session_with(peer), handler) is ConnectionReason.PROTOCOL_ERROR
    (refuse,) = peer.frames
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.action, refuse.retry_after_sec) == (CloseCode.BUSY, RefusalAction.RETRY_AFTER, 60)
    assert (peer.close_code, len(handler.frames)) == (CloseCode.BUSY, FRAMES_BURST)


async def test_an_agent_above_its_rate_for_a_moment_is_only_slowed() -> None:
    peer, handler = FakePeer(), Recorded()
    for _ in range(FRAMES_BURST + 2):
        peer.say(HEARTBEAT)
    peer.go_away()
    assert await ending_of(session_with(peer), handler) is ConnectionReason.CONNECTION_LOST
    assert (peer.frames, len(handler.frames)) == ([], FRAMES_BURST + 2)


async def test_why_an_agent_said_it_leaves_is_why_it_left() -> None:
    peer = FakePeer()
    session = session_with(peer)
    session.leaving = ConnectionReason.UPDATE
    peer.go_away()
    assert await ending_of(session) is ConnectionReason.UPDATE


async def test_samples_are_dealt_with_as_they_are_read_unless_a_frame_before_them_waits() -> None:
    peer, handler = FakePeer(), Recorded()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session_with(peer).run(handler))
        await asyncio.sleep(0)
        peer.say(SAMPLES)
        assert len(handler.taken) == 1
        peer.say(HEARTBEAT)
        peer.say(SAMPLES)
        peer.go_away()
        assert len(handler.frames) == 1, "the heartbeat waits for its task, and what follows behind it"
    assert running.result() is ConnectionReason.CONNECTION_LOST
    assert [type(frame) for frame in handler.frames] == [Metrics, Heartbeat, Metrics]
    assert len(handler.taken) == 1


async def test_samples_dealt_with_as_they_are_read_count_for_the_rate() -> None:
    peer, handler = FakePeer(), Recorded()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(session_with(peer).run(handler))
        await asyncio.sleep(0)
        for _ in range(FRAMES_BURST + 1):
            peer.say(SAMPLES)
        assert len(handler.taken) == FRAMES_BURST
        peer.go_away()
    assert len(handler.frames) == FRAMES_BURST + 1


async def test_what_fails_while_a_frame_is_read_ends_its_session_in_its_own_task() -> None:
    class Broken(Recorded):
        def take(self, _session: AgentSession, _frame: AgentFrame) -> bool:
            raise SessionEnded(
                CloseCode.BUSY, "more frames than credits were given for", ConnectionReason.SLOW_CONSUMER
            )

    peer = FakePeer()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session_with(peer).run(Broken()))
        await asyncio.sleep(0)
        peer.say(SAMPLES)
    assert running.result() is ConnectionReason.SLOW_CONSUMER
    assert peer.close_code == CloseCode.BUSY


async def test_nothing_is_taken_of_a_session_that_was_ended() -> None:
    peer, handler = FakePeer(), Recorded()
    session = session_with(peer)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(session.run(handler))
        await asyncio.sleep(0)
        session.end(SessionEnded(CloseCode.REVOKED, "removed"))
        peer.say(SAMPLES)
    assert handler.frames == []
