"""Frames that need no waiting are dealt with at once, and only those."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from hub_server.gateway.agents.handler import AgentFrameHandler
from hub_server.gateway.agents.session import AgentSession
from hub_server.pauses import PauseMeter
from protocol.desired import AgentConfig
from protocol.frames import Heartbeat, SystemInformation
from tests.clocks import FakeClock
from tests.hub_server.gateway.peers import FakePeer, session_with

KNOWN = SystemInformation(
    hostname="web-1",
    os="linux",
    os_version="12",
    arch="x86_64",
    cpu_count=4,
    memory_total_bytes=1,
    ip_addresses=["192.0.2.1"],
)
OTHER = msgspec.structs.replace(KNOWN, hostname="web-2")


class Stage:
    """A handler whose services know one machine and count what is heard of it."""

    def __init__(self) -> None:
        clock = FakeClock()
        self.heard: list[str] = []
        self.peer = FakePeer()
        self.session: AgentSession = session_with(self.peer, PauseMeter(clock, lambda _seconds: None))
        self.session.has_spoken = True
        services: Any = SimpleNamespace(
            heard=self.heard.append,
            measured=lambda *_: None,
            get=lambda *_: SimpleNamespace(config=AgentConfig()),
            is_described=lambda _organisation_id, _agent_id, sysinfo: sysinfo == KNOWN,
        )
        names = ("fleet", "presence", "telemetry", "reports", "skew", "commands", "certificates", "inventory")
        self.handler = AgentFrameHandler(clock=clock, **dict.fromkeys(names, services))

    def taken(self, sysinfo: SystemInformation | None) -> bool:
        return self.handler.take(self.session, Heartbeat(clock_ms=1, monotonic_ms=1, sysinfo=sysinfo))


def test_a_heartbeat_that_tells_nothing_new_is_answered_at_once() -> None:
    stage = Stage()
    assert stage.taken(None)
    assert stage.taken(KNOWN)
    assert len(stage.heard) == 2


def test_what_has_to_be_stored_first_is_left_to_the_reader() -> None:
    stage = Stage()
    assert not stage.taken(OTHER)
    stage.session.has_spoken = False
    assert not stage.taken(None)
    assert not stage.heard
