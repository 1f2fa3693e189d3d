"""Certificates that open no session: the handshake or the first frame says so, and nothing is changed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Final

from protocol.frames import HeartbeatAck
from tests.integration.forgery import ACCEPTED, Forger, met
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, enroll, greeted, heartbeat
from tests.integration.person import Person, known_to
from tests.integration.renewals import renewed

CASES_MIN: Final = 24


async def test_no_forged_certificate_is_accepted(
    hub: RunningHub, identity: Identity, unchanged: None, folder: Path
) -> None:
    """Each meets what it should: a handshake that fails, or a refusal that says what to do."""
    forger = Forger(hub, identity, folder)
    cases = forger.cases()
    found = {what: await met(hub, make()) for what, (make, _) in cases.items()}
    assert found == {what: expected for what, (_, expected) in cases.items()}
    assert len(cases) >= CASES_MIN
    assert ACCEPTED not in found.values()


async def test_the_true_certificate_is_accepted(hub: RunningHub, identity: Identity, folder: Path) -> None:
    assert await met(hub, Forger(hub, identity, folder).true()) == ACCEPTED


async def test_a_revoked_certificate_is_refused_for_good(hub: RunningHub, person: Person, folder: Path) -> None:
    lost = await enroll(hub, folder, "lost")
    await known_to(person, lost.agent_id)
    assert await met(hub, lost.tls()) == ACCEPTED
    await person.do("agents:revoke", agentId=lost.agent_id, reason="lost")
    assert await met(hub, lost.tls()) == "4403"


async def test_a_quarantined_agents_certificate_is_refused_for_a_while(
    hub: RunningHub, person: Person, folder: Path
) -> None:
    odd = await enroll(hub, folder, "odd")
    await known_to(person, odd.agent_id)
    await person.do("agents:quarantine", agentId=odd.agent_id, reason="odd")
    assert await met(hub, odd.tls()) == "4403"
    await person.do("agents:release", agentId=odd.agent_id)
    assert await met(hub, odd.tls()) == ACCEPTED


async def test_a_superseded_certificate_is_refused(hub: RunningHub, folder: Path) -> None:
    old = await enroll(hub, folder, "renewed")
    async with greeted(hub, old) as agent:
        new = await renewed(agent, old)
    async with greeted(hub, new) as agent:
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
    assert await met(hub, old.tls()) == "4401"


async def test_no_session_of_tls_can_be_resumed(hub: RunningHub, identity: Identity) -> None:
    """A resumed session would let in a certificate that has expired meanwhile."""
    context = identity.tls()
    port = int(hub.agent_url.rsplit(":", 1)[1])

    def resumed() -> tuple[bool, bool]:
        with _opened(context, port) as first:
            first.sendall(b"GET /api/v1/agent/ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert first.recv(1024).startswith(b"HTTP/1.1 200")
            session = first.session
        assert session is not None
        with _opened(context, port, session) as second:
            second.sendall(b"GET /api/v1/agent/ca HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert second.recv(1024).startswith(b"HTTP/1.1 200")
            return session.has_ticket, bool(second.session_reused)

    assert await asyncio.to_thread(resumed) == (False, False)


def _opened(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), 10)
    return context.wrap_socket(plain, server_hostname="localhost", session=session)
