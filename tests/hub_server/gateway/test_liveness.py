"""Silence, stalls and second sessions: who is given up, when, and that the hub's own pauses do not count."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hub_server.gateway.agents.clones import CloneWatch
from hub_server.gateway.agents.liveness import SUPERSEDED_GRACE_SECONDS, Liveness
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.agents.session import AgentSession, SessionEnded, Supersession
from hub_server.pauses import PauseMeter
from protocol.codec import encode_text
from protocol.codes import CloseCode
from protocol.enumerations import ConnectionReason, Lane
from protocol.frames import AgentFrame, Drain, Heartbeat, HubFrame, Metrics, Sample
from protocol.identity import AgentIdentity
from protocol.limits import (
    HEARTBEAT_SECONDS,
    OFFLINE_AFTER_SECONDS,
    PING_AFTER_HEARTBEATS,
    SEND_DEADLINE_AGENT_SECONDS,
)
from tests.clocks import FakeClock
from tests.hub_server.gateway.peers import IDENTITY, FakePeer, Recorded, ending_of, lived, session_with

BEAT = encode_text(Heartbeat(clock_ms=1, monotonic_ms=1))


class Suspicions:
    """Counts as the certificates' service does, without its hour."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, str]] = []

    async def suspect_clone(self, _identity: AgentIdentity, *, older_address: str, newer_address: str) -> int:
        self.stored.append((older_address, newer_address))
        return len(self.stored)


class Quarantines:
    def __init__(self) -> None:
        self.of: list[str] = []

    async def quarantine_by_hub(self, _organisation_id: str, agent_id: str, _reason: str) -> None:
        self.of.append(agent_id)


class Store:
    """Takes `room` frames and no more."""

    def __init__(self) -> None:
        self.room = 0
        self.frames: list[Metrics] = []

    def receive(self, _organisation_id: str, _agent_id: str, frame: Metrics) -> bool:
        if len(self.frames) == self.room:
            return False
        self.frames.append(frame)
        return True


class Watch:
    """A liveness sweep over one agent's sessions, on a clock that the test drives."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pauses = PauseMeter(self.clock, lambda _seconds: None)
        self.registry = SessionRegistry()
        self.store = Store()
        telemetry: Any = self.store
        self.certificates = Suspicions()
        self.desk = Quarantines()
        certificates: Any = self.certificates
        desk: Any = self.desk
        self.clones = CloneWatch(certificates=certificates, desk=desk)
        self.liveness = Liveness(registry=self.registry, pauses=self.pauses, telemetry=telemetry, clones=self.clones)

    def join(self, peer: FakePeer, serial: str = "01", address: str = "192.0.2.1") -> AgentSession:
        session = session_with(peer, self.pauses, serial=serial, address=address)
        self.registry.enter(session)
        return session

    async def supersede(self, older: AgentSession, *, is_handover: bool = False) -> None:
        older.superseded = Supersession(self.pauses.active_seconds(), "192.0.2.2", is_handover)
        await older.ping()

    async def after(self, seconds: float) -> None:
        lived(self.clock, self.pauses, seconds)
        await self.liveness.sweep()


@pytest.fixture
def watch() -> Watch:
    return Watch()


async def test_a_silent_agent_is_pinged_and_then_given_up(watch: Watch) -> None:
    peer = FakePeer()
    session = watch.join(peer)
    await watch.after(PING_AFTER_HEARTBEATS * HEARTBEAT_SECONDS - 1)
    assert peer.pings == 0
    await watch.after(2)
    await watch.after(10)
    assert peer.pings == 1
    await watch.after(OFFLINE_AFTER_SECONDS - PING_AFTER_HEARTBEATS * HEARTBEAT_SECONDS)
    assert await ending_of(session) is ConnectionReason.SILENT


async def test_an_agent_that_speaks_is_not_silent_while_the_hub_still_deals_with_what_it_said_before(
    watch: Watch,
) -> None:
    class Stuck(Recorded):
        async def handle(self, _session: AgentSession, _frame: AgentFrame) -> list[HubFrame]:
            self.came.set()
            await asyncio.Event().wait()
            return []

    peer, handler = FakePeer(), Stuck()
    session = watch.join(peer)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(session.run(handler), name="session")
        await asyncio.sleep(0)
        peer.say(BEAT)
        await handler.came.wait()
        for _ in range(5):
            await watch.after(HEARTBEAT_SECONDS)
            peer.say(BEAT)
        assert (session.is_ending, peer.pings) == (False, 0)
        await watch.after(OFFLINE_AFTER_SECONDS)
    assert running.result() is ConnectionReason.SILENT


async def test_a_frozen_hub_gives_nobody_up(watch: Watch) -> None:
    peer = FakePeer()
    session = watch.join(peer)
    await watch.after(30)
    watch.clock.advance(600)  # nobody ticked: the hub itself did not run
    watch.pauses.tick()
    await watch.after(1)
    assert peer.pings == 0
    peer.go_away()
    assert await ending_of(session) is ConnectionReason.CONNECTION_LOST


async def test_an_agent_that_reads_nothing_is_given_up_at_the_send_deadline(watch: Watch) -> None:
    peer = FakePeer(unread=True)
    session = watch.join(peer)
    session.send(Drain(over_sec=1, slot_sec=0))
    await watch.after(1)
    await watch.after(SEND_DEADLINE_AGENT_SECONDS)
    assert await ending_of(session) is ConnectionReason.SLOW_CONSUMER


async def test_an_older_session_goes_after_its_grace_and_the_newer_stays(watch: Watch) -> None:
    older_peer, newer_peer = FakePeer(), FakePeer()
    older = watch.join(older_peer)
    newer = watch.join(newer_peer)
    await watch.supersede(older)
    await watch.after(SUPERSEDED_GRACE_SECONDS - 1)
    newer_peer.go_away()
    assert older_peer.close_code is None
    await watch.after(1.5)
    assert await ending_of(older) is ConnectionReason.SUPERSEDED
    assert not watch.registry.leave(older)
    assert watch.registry.leave(newer)
    assert watch.certificates.stored == []  # nobody answered the ping: the older one was dead


async def test_an_older_session_that_answers_is_another_machine(watch: Watch) -> None:
    older_peer = FakePeer()
    older = watch.join(older_peer)
    watch.join(FakePeer())
    await watch.supersede(older)
    answered(older)
    await watch.after(SUPERSEDED_GRACE_SECONDS + 0.5)
    assert watch.certificates.stored == [("192.0.2.1", "192.0.2.2")]
    await watch.after(1)  # it is ending: it counts once
    assert len(watch.certificates.stored) == 1


async def test_what_an_older_session_said_before_the_newer_came_is_no_answer(watch: Watch) -> None:
    """The hub was slow: the agent gave the connection up, and what it had said there is still being dealt with."""

    class Slow(Recorded):
        def __init__(self) -> None:
            super().__init__()
            self.may_go_on = asyncio.Event()

        async def handle(self, session: AgentSession, frame: AgentFrame) -> list[HubFrame]:
            await super().handle(session, frame)
            await self.may_go_on.wait()
            return []

    peer, handler = FakePeer(), Slow()
    older = watch.join(peer)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(older.run(handler), name="session")
        await asyncio.sleep(0)
        peer.say(BEAT)
        peer.say(BEAT)
        await handler.came.wait()
        handler.came.clear()
        watch.join(FakePeer())
        await watch.supersede(older)
        handler.may_go_on.set()
        await handler.came.wait()
        await watch.after(SUPERSEDED_GRACE_SECONDS + 0.5)
    assert watch.certificates.stored == []


async def test_an_agent_that_changes_over_to_its_new_certificate_is_no_clone(watch: Watch) -> None:
    older = watch.join(FakePeer())
    watch.join(FakePeer(), serial="02")
    await watch.supersede(older, is_handover=True)
    answered(older)
    await watch.after(SUPERSEDED_GRACE_SECONDS + 0.5)
    assert await ending_of(older) is ConnectionReason.SUPERSEDED
    assert watch.certificates.stored == []


async def test_the_third_suspicion_means_quarantine(watch: Watch) -> None:
    quarantined = []
    for number in range(3):
        older = session_with(FakePeer(), watch.pauses, serial=str(number))
        await watch.supersede(older)
        answered(older)
        await watch.clones.look_at(older)
        quarantined.append(list(watch.desk.of))
    assert quarantined == [[], [], [IDENTITY.agent_id]]


def test_when_the_newer_session_goes_first_the_older_is_the_agents_again(watch: Watch) -> None:
    oldest, older, newer = (watch.join(FakePeer(), serial=str(number)) for number in range(3))
    agent_id = newer.identity.agent_id
    assert watch.registry.of_agent(agent_id) == [newer, oldest, older]
    assert not watch.registry.leave(newer)
    assert watch.registry.get(agent_id) is older
    oldest.end(SessionEnded(CloseCode.SUPERSEDED, "over"))
    assert watch.registry.leave(older)
    assert watch.registry.get(agent_id) is None
    assert list(watch.registry.retiring()) == [oldest]
    assert watch.registry.leave(oldest)
    assert list(watch.registry.retiring()) == []


async def test_frames_that_had_to_wait_are_offered_again_each_time_until_the_store_takes_them(watch: Watch) -> None:
    session = watch.join(FakePeer())
    sample = Sample(seq=1, ts=1, metric_type="system", metric_data={})
    frames = [Metrics(epoch=epoch, lane=Lane.LIVE, samples=[sample]) for epoch in (1, 2, 3)]
    session.held.extend(frames)
    await watch.after(1)
    assert watch.store.frames == []
    watch.store.room = 2
    await watch.after(1)
    assert (watch.store.frames, list(session.held)) == (frames[:2], frames[2:])
    watch.store.room = 3
    await watch.after(1)
    assert (watch.store.frames, list(session.held)) == (frames, [])


def answered(session: AgentSession) -> None:
    """Anything that comes from the peer takes the ping back."""
    session.pinged_at = None
