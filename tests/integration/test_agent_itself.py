"""The real agent at a real hub: a change of certificate under a running session, and back in after it ran out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from agent_client.agent import Agent
from agent_client.cli import main
from agent_client.config import load_config, save_config
from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from agent_client.witness import Witness
from hub_server.pki.news import NEWS_NAME, ring
from hub_server.pki.tables import CertificateRow
from protocol.enumerations import AuthorityUse
from tests.integration.hub import RunningHub, running_hub
from tests.integration.person import watching

DEADLINE_SECONDS = 60.0
SHORT_LIFE_SECONDS = 8


async def enrolled(hub: RunningHub, folder: Path) -> Places:
    """Enroll as a person does, and let the agent return at once."""
    arguments = ["enroll", "--data-dir", str(folder), "--token", await hub.mint(), "--hub", hub.agent_url]
    assert await asyncio.to_thread(main, arguments) == 0
    places = Places.inside(folder)
    config = load_config(places)
    save_config(
        places,
        msgspec.structs.replace(
            config, websocket_url=hub.socket_url, first_retry_spread_seconds=0.1, backoff_initial_seconds=0.1
        ),
    )
    return places


@asynccontextmanager
async def at_work(places: Places) -> AsyncIterator[Agent]:
    agent = Agent(places, load_config(places))
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run(), name="agent")
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                yield agent
        finally:
            agent.stop()


async def session_after(agent: Agent, former: str) -> str:
    while agent.status().link != "connected" or agent.status().session_id == former:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # the agent's status has no event
    return agent.status().session_id


def make_due(places: Places) -> None:
    """Let the agent believe that its certificate is old; the hub goes by the certificate itself."""
    file = places.certs / "client.crt"
    file.write_text(re.sub("Not-Before: .*", "Not-Before: 2020-01-01T00:00:00+00:00", file.read_text()))


async def test_a_certificate_is_changed_under_a_session_that_never_goes_down(folder: Path) -> None:
    async with running_hub(folder / "hub") as hub:
        places = await enrolled(hub, folder / "agent")
        make_due(places)
        async with at_work(places) as agent:
            first = await session_after(agent, "")
            connected_since = agent.status().connected_since_ms
            second = await session_after(agent, first)
            assert agent.status().connected_since_ms == connected_since
            assert agent.status().certificate.renewal == "scheduled"
        assert second != first
        assert await hub.count(CertificateRow, agent_id=agent.config.agent_id) == 2
        assert len(Pairs(places).candidates(agent.config.agent_id)) == 1
        assert Witness(places).checkpoints()


async def test_an_agent_whose_certificate_ran_out_is_back_after_a_persons_yes(folder: Path) -> None:
    async with running_hub(folder / "hub", pki={"agent_certificate_seconds": SHORT_LIFE_SECONDS}) as hub:
        places = await enrolled(hub, folder / "agent")
        await asyncio.sleep(SHORT_LIFE_SECONDS + 1)  # nothing tells when a certificate runs out
        async with watching(hub, await hub.sign_in()) as person, at_work(places) as agent:
            while "approves" not in agent.status().advice:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            (waiting,) = (await person.do("approvals:list"))["approvals"]
            assert (waiting["kind"], waiting["agentId"]) == ("recover", agent.config.agent_id)
            assert waiting["fingerprint"] in agent.status().advice
            await person.do("approvals:approve", approvalId=waiting["id"])
            agent.reload()
            await session_after(agent, "")
            assert agent.status().advice == ""


async def test_an_agent_whose_authority_was_revoked_is_back_after_a_persons_yes(folder: Path) -> None:
    async with running_hub(folder / "hub") as hub:
        places = await enrolled(hub, folder / "agent")
        async with watching(hub, await hub.sign_in()) as person, at_work(places) as agent:
            first = await session_after(agent, "")
            await hub.authority.rotate(AuthorityUse.AGENTS, actor="test", revoke=True)
            ring(hub.settings.data_dir / NEWS_NAME)
            while "approves" not in agent.status().advice:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            (waiting,) = (await person.do("approvals:list"))["approvals"]
            assert (waiting["kind"], waiting["agentId"]) == ("recover", agent.config.agent_id)
            await person.do("approvals:approve", approvalId=waiting["id"])
            agent.reload()
            assert await session_after(agent, first) != first
            (pair,) = Pairs(places).candidates(agent.config.agent_id)
            assert pair.facts.issuer_sha256 == hub.authority.certificate_terms.issuer_sha256
