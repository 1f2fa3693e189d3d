"""The real agent at a real hub: a change of certificate under a running session, back in after it ran out, and other
authorities and signers than the ones it was enrolled with.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
from sqlalchemy import select
from sqlmodel import col

from agent_client.agent import Agent
from agent_client.cli import main
from agent_client.config import load_config, save_config
from agent_client.control.local import DaemonUnreachable, ask_daemon
from agent_client.paths import Places
from agent_client.renewal.pairs import Pairs
from agent_client.trust.document import load_trust
from agent_client.witness import Witness
from hub_server.commands.tables import CommandRow
from hub_server.pki.news import NEWS_NAME, ring
from hub_server.pki.tables import CertificateRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enumerations import AuthorityState, AuthorityUse
from tests.agent_client.test_daemon import daemon_of
from tests.integration.hub import RunningHub, running_hub
from tests.integration.person import Person, watching

DEADLINE_SECONDS = 60.0
SHORT_LIFE_SECONDS = 8
ROTATING = {"server_certificate_seconds": 60, "overlap_seconds": 3, "issuing_seconds": 6_000_000}


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


async def daemons_session(places: Places, former: str = "") -> str:
    """Return the session the daemon holds, once it is another than `former`."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with suppress(DaemonUnreachable):
                status = await asyncio.to_thread(ask_daemon, places, "status")
                if status.link == "connected" and status.session_id != former:
                    return status.session_id
            await asyncio.sleep(0.05)  # the daemon's status has no event


async def exchanged(hub: RunningHub) -> str:
    """Rotate the CA of the hub's certificates and the signer of jobs. Return the signer that signs from now on.

    Then nobody trusts the old CA any more.
    """
    before = {key.id for key in hub.authority.overview().authorities}
    await hub.authority.rotate(AuthorityUse.SERVERS, AuthorityUse.JOBS, actor="test")
    ring(hub.settings.data_dir / NEWS_NAME)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            await hub.authority.refresh()
            keys = hub.authority.overview().authorities
            servers = {key.id for key in keys if key.use is AuthorityUse.SERVERS}
            (signer,) = (key.id for key in keys if key.use is AuthorityUse.JOBS and key.state is AuthorityState.ACTIVE)
            if before.isdisjoint({*servers, signer}):
                return signer
            await asyncio.sleep(0.1)  # a rotation takes its time


async def signers_of_a_command(hub: RunningHub, person: Person, agent_id: str) -> list[str]:
    """Let the agent run a command; return who signed it."""
    created = await person.do("commands:create", agentId=agent_id, commandData={"argv": ["true"]})
    command_id = created["command"]["id"]
    result = await person.take("agent:command:result", lambda result: result["commandId"] == command_id)
    assert (result["status"], result["exitCode"]) == ("COMPLETED", 0)
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        query = select(col(CommandRow.signatures)).where(col(CommandRow.id) == command_id)
        return [signature["keyId"] for signature in (await connection.execute(query)).scalar_one()]


def server_authorities(places: Places) -> list[str]:
    return [each.certificate_pem for each in load_trust(places)[1].issuing_authorities if each.use == "servers"]


async def test_a_connected_daemon_follows_a_rotation_and_reconnects_to_a_hub_with_other_keys(folder: Path) -> None:
    async with running_hub(folder / "hub", pki=ROTATING) as hub, watching(hub, await hub.sign_in()) as person:
        places = await enrolled(hub, folder / "agent")
        config, old = load_config(places), server_authorities(places)
        async with daemon_of(places):
            first = await daemons_session(places)
            signer = await exchanged(hub)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while set(old) & set(server_authorities(places)):  # noqa: ASYNC110  the last document is on its way
                    await asyncio.sleep(0.05)
            assert await daemons_session(places) == first
            elsewhere = hub.socket_url.replace("127.0.0.1", "localhost")
            save_config(places, msgspec.structs.replace(config, websocket_url=elsewhere))
            await asyncio.to_thread(ask_daemon, places, "reload")
            assert await daemons_session(places, first) != first
            assert await signers_of_a_command(hub, person, config.agent_id) == [signer]


async def test_a_daemon_that_was_away_during_a_rotation_heals_itself(folder: Path) -> None:
    async with running_hub(folder / "hub", pki=ROTATING) as hub, watching(hub, await hub.sign_in()) as person:
        places = await enrolled(hub, folder / "agent")
        agent_id, old = load_config(places).agent_id, server_authorities(places)
        async with daemon_of(places) as daemon:
            await daemons_session(places)
            daemon.process.terminate()
            assert await daemon.ended() == 0
        signer = await exchanged(hub)
        assert server_authorities(places) == old
        async with daemon_of(places) as daemon:
            await daemon.says("trust document taken up")
            await daemon.says("session up")
            assert await signers_of_a_command(hub, person, agent_id) == [signer]
        assert set(server_authorities(places)).isdisjoint(old)
