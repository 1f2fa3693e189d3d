"""A hub that serves again on the same folder: what was acknowledged is there, and nobody is called offline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from protocol.enumerations import CommandOutcome, JobState, RefusalAction
from protocol.frames import (
    Command,
    CommandAccepted,
    CommandResult,
    CommandResultAck,
    Drain,
    JobProgress,
    MetricsAck,
    Refuse,
)
from tests.integration.hub import RunningHub, running_hub
from tests.integration.machine import connected, enroll, greeted, heartbeat, metrics, now_ms, sample
from tests.integration.person import known_to, watching


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url


async def test_a_restart_loses_nothing_and_calls_nobody_offline(folder: Path, database_url: str | None) -> None:
    async with running_hub(folder / "hub", database_url=database_url) as hub:
        identity = await enroll(hub, folder, "stays")
        token = await hub.sign_in()
        async with watching(hub, token) as person, greeted(hub, identity) as agent:
            for seq, cpu_percent in ((1, 12.5), (2, 33.0)):
                await agent.send(metrics(sample(seq, cpu_percent=cpu_percent)))
                await agent.take(MetricsAck)
            await person.take("agents:status", lambda status: any(a["hostname"] == "stays" for a in status["agents"]))
            created = await person.do("commands:create", agentId=identity.agent_id, commandData={"argv": ["true"]})
            order = await agent.take(Command)
            await agent.send(CommandAccepted(command_id=order.command_id, ts=now_ms()))
            await agent.send(heartbeat())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hub.stop())
                assert (await agent.take(Drain)).over_sec >= 1
                assert (await agent.ended())[0] == 4503
            await asyncio.wait_for(person.gone.wait(), 10)
        await hub.start()
        async with watching(hub, token) as person:
            (shown,) = (await person.take("agents:status"))["agents"]
            assert (shown["status"], shown["statusReason"]) == ("ACTIVE", "hub_away")
            assert shown["metrics"]["cpu_percent"] == 33.0
            job = JobProgress(command_id=order.command_id, state=JobState.ACCEPTED)
            async with connected(hub, identity.tls()) as agent:
                welcome = await agent.greet(jobs=[job])
                assert welcome.acks["live"].ranges == [(1, 2)]
                assert welcome.jobs == [created["command"]["id"]]
                await agent.send(metrics(sample(2), sample(3)))
                await agent.take(MetricsAck)
                assert await person.stored_samples(identity.agent_id) == 3
                result = CommandResult(command_id=order.command_id, status=CommandOutcome.COMPLETED, exit_code=0)
                await agent.send(result)
                await agent.take(CommandResultAck)
                assert not agent.inbox.held(lambda frame: isinstance(frame, Command))
            gone = await person.take("agent:disconnected")
            assert gone["reason"] == "connection_lost"
            assert not person.held("agent:disconnected")


async def test_what_was_refused_before_a_restart_is_refused_after_it(folder: Path) -> None:
    async with running_hub(folder / "hub") as hub:
        identity = await enroll(hub, folder)
        token = await hub.sign_in()
        async with watching(hub, token) as person:
            await known_to(person, identity.agent_id)
            await person.do("agents:delete", agentId=identity.agent_id)
        await hub.stop()
        await hub.start()
        async with connected(hub, identity.tls()) as agent:
            refuse = await agent.take(Refuse)
            assert (refuse.code, refuse.action) == (4403, RefusalAction.NEVER)
            assert (await agent.ended())[0] == 4403


async def test_a_second_hub_cannot_take_the_same_ports(folder: Path) -> None:
    async with running_hub(folder / "hub") as hub:
        settings = hub.settings
        second = RunningHub(folder / "other", people_port=settings.people.port, agents_port=settings.agents.port)
        try:
            with pytest.raises(OSError, match="in use"):
                await second.start()
        finally:
            await second.close()
