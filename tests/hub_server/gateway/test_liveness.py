"""Silence, stalls and second sessions: who is given up, when, and that the hub's own pauses do not count."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import WSMsgType

from hub_server.gateway.agents.liveness import SUPERSEDED_GRACE_SECONDS, Liveness
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.agents.session import AgentSession
from hub_server.pauses import PauseMeter
from protocol.enumerations import ConnectionReason
from protocol.limits import (
    HEARTBEAT_SECONDS,
    OFFLINE_AFTER_SECONDS,
    PING_AFTER_HEARTBEATS,
    SEND_DEADLINE_AGENT_SECONDS,
)
from tests.clocks import FakeClock
from tests.hub_server.gateway.peers import FakePeer, ending_of, lived, session_with


class Watch:
    """A liveness sweep over one agent's sessions, on a clock that the test drives."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pauses = PauseMeter(self.clock, lambda _seconds: None)
        self.registry = SessionRegistry()
        telemetry: Any = None  # no frame is held here
        self.liveness = Liveness(registry=self.registry, pauses=self.pauses, telemetry=telemetry)

    def join(self, peer: FakePeer) -> AgentSession:
        session = session_with(peer, self.pauses)
        self.registry.enter(session)
        return session

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
    await peer.send_frame(b'{"type":"drain","overSec":1,"slotSec":0}', WSMsgType.TEXT)
    await watch.after(1)
    await watch.after(SEND_DEADLINE_AGENT_SECONDS)
    assert await ending_of(session) is ConnectionReason.SLOW_CONSUMER


async def test_an_older_session_goes_after_its_grace_and_the_newer_stays(watch: Watch) -> None:
    older_peer, newer_peer = FakePeer(), FakePeer()
    older = watch.join(older_peer)
    newer = watch.join(newer_peer)
    older.superseded_at = watch.pauses.active_seconds()
    await watch.after(SUPERSEDED_GRACE_SECONDS - 1)
    newer_peer.go_away()
    assert older_peer.close_code is None
    await watch.after(1.5)
    assert await ending_of(older) is ConnectionReason.SUPERSEDED
    assert not watch.registry.leave(older)
    assert watch.registry.leave(newer)
