"""Presence as people see it: nobody is offline because the hub stood still, and who is kept out is told why."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from hub_server.presence.tables import PresenceRow
from protocol.enumerations import GoodbyeReason
from protocol.frames import Goodbye, Refuse
from tests.integration.hub import RunningHub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.machine import connected, enroll, greeted, hello
from tests.integration.person import Json, Person, known_to, watching
from tests.integration.process_hub import ProcessHub, process_hub

IMPATIENT = (sys.executable, "-m", "tests.integration.impatient_hub")
STOPPED_SECONDS = 1.6
OTHER_VERSION = "refused: it speaks another version of the protocol"


async def shown(person: Person, agent_id: str) -> tuple[str, str]:
    agent = (await person.do("agents:get", agentId=agent_id))["agent"]
    return agent["status"], agent["statusReason"]


def of(agent_id: str, *, reason: str) -> Any:
    """Return whether a list's change tells this of the agent."""

    def tells(change: Json) -> bool:
        return any(agent["id"] == agent_id and agent["statusReason"] == reason for agent in change["agents"])

    return tells


async def test_a_hub_that_stood_still_calls_nobody_offline(folder: Path) -> None:
    async with process_hub(folder / "hub", program=IMPATIENT) as hub, AsyncExitStack() as stack:
        names = ("stays", "returns", "vanishes", "leaves")
        machines = {name: await enroll(hub, folder, name) for name in names}
        person = await stack.enter_async_context(watching(hub, await hub.sign_in()))
        for machine in machines.values():
            await known_to(person, machine.agent_id)
        stays, returns, vanishes, leaves = (machines[name].agent_id for name in names)
        agents = {name: await stack.enter_async_context(greeted(hub, machines[name])) for name in names}
        await agents["leaves"].send(Goodbye(reason=GoodbyeReason.SHUTDOWN))
        await agents["leaves"].connection.close()
        assert (await person.take("agent:disconnected"))["reason"] == "shutdown"

        async with frozen(hub):
            for name in ("returns", "vanishes"):
                agents[name].connection.transport.abort()
        await person.take("agents:status", of(returns, reason="hub_away"))
        assert await shown(person, returns) == await shown(person, vanishes) == ("ACTIVE", "hub_away")
        assert await shown(person, stays) == ("ACTIVE", "")
        async with greeted(hub, machines["returns"]):
            assert await shown(person, returns) == ("ACTIVE", "")
            gone = await person.take("agent:disconnected")
            assert (gone["agentId"], gone["reason"]) == (vanishes, "silent")
            assert not person.held("agent:disconnected")
        assert await hub.count(PresenceRow, agent_id=leaves, connected=False, reason="shutdown") == 1  # by now
        assert await hub.count(PresenceRow, agent_id=stays, connected=True) == 1


async def strangers(hub: RunningHub, count: int) -> None:
    """Return once so many connections have not said who they are."""
    async with asyncio.timeout(DEADLINE_SECONDS), hub.people() as people:
        while True:
            async with people.get("/metrics") as answer:
                if f"jtnt_agents_guests {count:.1f}\n" in await answer.text():
                    return


async def test_a_machine_that_is_cut_off_before_its_hello_is_not_called_refused(
    hub: RunningHub, person: Person, folder: Path
) -> None:
    machine = await enroll(hub, folder, "cut off")
    await known_to(person, machine.agent_id)
    before = await shown(person, machine.agent_id)
    await strangers(hub, 0)
    async with connected(hub, machine.tls()) as agent:
        await strangers(hub, 1)
        agent.connection.transport.abort()
        await strangers(hub, 0)
    assert await shown(person, machine.agent_id) == before


async def test_a_machine_of_another_version_is_told_from_one_that_is_away(
    hub: RunningHub, person: Person, folder: Path
) -> None:
    machine = await enroll(hub, folder, "too new")
    await known_to(person, machine.agent_id)
    async with connected(hub, machine.tls()) as agent:
        await agent.send(hello(protocol=(2, 3)))
        await agent.take(Refuse)
    assert await shown(person, machine.agent_id) == ("OFFLINE", OTHER_VERSION)
    await person.take("agents:status", of(machine.agent_id, reason=OTHER_VERSION))
    async with greeted(hub, machine):
        assert await shown(person, machine.agent_id) == ("ACTIVE", "")


@asynccontextmanager
async def frozen(hub: ProcessHub) -> AsyncIterator[None]:
    """The hub does not run within the block, which takes STOPPED_SECONDS."""
    os.kill(hub.pid, signal.SIGSTOP)
    try:
        yield
        await asyncio.sleep(STOPPED_SECONDS)
    finally:
        os.kill(hub.pid, signal.SIGCONT)
