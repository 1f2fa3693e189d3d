"""The hub's own certificate and the anchors of its agents, exchanged while sessions go on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from hub_server.pki.trust import document_of
from protocol.enrollment import CaReply
from protocol.enumerations import AuthorityUse
from protocol.frames import HeartbeatAck
from tests.integration.hub import RunningHub, running_hub
from tests.integration.machine import AgentSocket, Identity, enroll, greeted, heartbeat, tls_with

DEADLINE_SECONDS = 30.0
GLANCE_SECONDS = 0.2
SHORT = {"agent_certificate_seconds": 600, "server_certificate_seconds": 4, "overlap_seconds": 2}


async def shown_by(hub: RunningHub) -> str:
    """Return the leaf that the hub shows to a new connection."""
    host, port = "127.0.0.1", int(hub.agent_url.rpartition(":")[2])
    context = tls_with(hub.authority.root_pem)
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return ssl.DER_cert_to_PEM_cert(der)
    finally:
        writer.close()


async def another_than(hub: RunningHub, before: str) -> str:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if (now := await shown_by(hub)) != before:
                return now
            await asyncio.sleep(GLANCE_SECONDS)


async def assert_alive(agent: AgentSocket) -> None:
    await agent.send(heartbeat())
    assert (await agent.take(HeartbeatAck)).ok


@asynccontextmanager
async def agent_of(hub: RunningHub, folder: Path) -> AsyncIterator[tuple[Identity, AgentSocket]]:
    identity = await enroll(hub, folder)
    async with greeted(hub, identity) as agent:
        yield identity, agent


async def test_the_hubs_certificate_is_renewed_and_no_session_ends(folder: Path) -> None:
    async with running_hub(folder / "hub", pki=SHORT) as hub, agent_of(hub, folder) as (_, agent):
        first = await shown_by(hub)
        second = await another_than(hub, first)
        await another_than(hub, second)
        await assert_alive(agent)


async def test_a_rotation_beside_the_running_hub_reaches_it(folder: Path) -> None:
    """As `jtnt-hub ca rotate` does it, through the database alone: old and new certificates both open sessions."""
    async with running_hub(folder / "hub", pki=SHORT) as hub, agent_of(hub, folder) as (old, agent):
        await hub.authority.rotate(AuthorityUse.AGENTS, actor="hub-cli")
        await told_of(hub, hub.authority.trust_version)
        newcomer = await enroll(hub, folder)
        assert newcomer.certificate.read_text().endswith(hub.authority.agents_ca_pem)
        assert not old.certificate.read_text().endswith(hub.authority.agents_ca_pem)
        await assert_alive(agent)
        for identity in (newcomer, old):
            async with greeted(hub, identity) as back:
                await assert_alive(back)


async def told_of(hub: RunningHub, version: int) -> None:
    """Return once whoever asks the hub for its CA is told of this trust document."""
    async with asyncio.timeout(DEADLINE_SECONDS), hub.machine() as session:
        while True:
            async with session.get("/api/v1/agent/ca") as answer:
                reply = msgspec.json.decode(await answer.read(), type=CaReply)
            if document_of(reply.trust).version >= version:
                return
            await asyncio.sleep(GLANCE_SECONDS)
