"""A real hub, killed on either side of the commits of a command's life: it runs once, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from protocol.enumerations import CommandOutcome, JobState, OutputStream, Role
from protocol.frames import (
    Command,
    CommandAccepted,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandResultAck,
    CommandStarted,
    JobProgress,
)
from tests.integration.hub import ADMINISTRATOR
from tests.integration.machine import AgentSocket, Identity, connected, enroll, now_ms
from tests.integration.mortal_ledger import Order, Side
from tests.integration.person import Json, Person, known_to, watching
from tests.integration.process_hub import ProcessHub

DIES_WITHIN_SECONDS = 20.0
CREATED = "INSERT INTO agent_commands"
PRINTED = "INSERT INTO command_output"
CHANGED = "UPDATE agent_commands"


class MortalHub(ProcessHub):
    def __init__(self, folder: Path) -> None:
        self.order = folder.with_suffix(".order")
        program = (sys.executable, "-m", "tests.integration.mortal_ledger", str(self.order))
        super().__init__(folder, log=folder.with_suffix(".log"), program=program)

    @asynccontextmanager
    async def killed_at(self, side: Side, words: str) -> AsyncIterator[None]:
        """Within the block the hub ends there; after it the next one serves."""
        self.order.write_bytes(msgspec.json.encode(Order(side, words)))
        yield
        assert self._process is not None
        async with asyncio.timeout(DIES_WITHIN_SECONDS):
            assert await self._process.wait() == -signal.SIGKILL
        await self.start()


async def test_a_job_survives_its_hub_at_every_step(tmp_path: Path) -> None:
    hub = MortalHub(tmp_path / "hub")
    try:
        await hub.start()
        await hub.add_user(ADMINISTRATOR, Role.ORG_ADMIN)
        identity, token = await enroll(hub, tmp_path), await hub.sign_in()
        order = await created_once(hub, token, identity)
        await printed_once(hub, token, identity, order.command_id)
        await ended_once(hub, token, identity, order.command_id)
    finally:
        await hub.close()


async def created_once(hub: MortalHub, token: str, identity: Identity) -> Command:
    """Asked for again and again with one key, it is one command, and goes out as the same bytes each time."""
    asked = {"agentId": identity.agent_id, "commandData": {"argv": ["uptime"]}, "idempotencyKey": "k"}
    ids: set[str] = set()
    for side in (Side.BEFORE, Side.AFTER):
        async with watching(hub, token) as person, connected(hub, identity.tls()) as agent:
            await agent.greet()
            await known_to(person, identity.agent_id)
            async with hub.killed_at(side, CREATED), asyncio.TaskGroup() as tasks:
                unanswered = tasks.create_task(person.ask("commands:create", **asked))
                await agent.ended()
                unanswered.cancel()
            assert not agent.inbox.held(lambda frame: isinstance(frame, Command))
        async with watching(hub, token) as person:
            if side is Side.AFTER:
                ids.add((await person.do("commands:create", **asked))["command"]["id"])
            listed = await person.do("commands:list")
            assert listed["total"] == (0 if side is Side.BEFORE else 1)
    orders = []
    for _ in range(2):
        async with connected(hub, identity.tls()) as agent:
            await agent.greet()
            orders.append(await agent.take(Command))
    assert orders[0] == orders[1]
    assert ids == {orders[0].command_id}
    return orders[0]


async def printed_once(hub: MortalHub, token: str, identity: Identity, command_id: str) -> None:
    """What people saw before the commit that never was, the agent says again."""
    async with watching(hub, token) as person, connected(hub, identity.tls()) as agent:
        await agent.greet(jobs=[JobProgress(command_id=command_id, state=JobState.ACCEPTED)])
        async with hub.killed_at(Side.BEFORE, PRINTED):
            await agent.send(CommandAccepted(command_id=command_id, ts=now_ms()))
            await agent.send(CommandStarted(command_id=command_id, ts=now_ms()))
            await agent.send(said(command_id, 0, "up 3 days"))
            await agent.ended()
        assert not agent.inbox.held(lambda frame: isinstance(frame, CommandOutputAck))
        assert [event["offset"] for event in person.held("agent:command:output")] == [0]
    async with watching(hub, token) as person, resumed(hub, identity, command_id, JobState.STARTED) as agent:
        await agent.send(said(command_id, 0, "up 3 days"))
        assert (await agent.take(CommandOutputAck)).offset == 9
        await agent.send(said(command_id, 4, " days, load 0"))
        assert (await agent.take(CommandOutputAck)).offset == 17
        assert await output(person, command_id) == ("up 3 days, load 0", False)
        assert (await view(person, command_id))["status"] == "EXECUTING"


async def ended_once(hub: MortalHub, token: str, identity: Identity, command_id: str) -> None:
    first = CommandResult(command_id=command_id, status=CommandOutcome.COMPLETED, exit_code=0, finished_at=now_ms())
    for side in (Side.BEFORE, Side.AFTER):
        async with resumed(hub, identity, command_id, JobState.FINISHED) as agent:
            async with hub.killed_at(side, CHANGED):
                await agent.send(first)
                await agent.ended()
            assert not agent.inbox.held(lambda frame: isinstance(frame, CommandResultAck))
    other = msgspec.structs.replace(first, status=CommandOutcome.FAILED, exit_code=9)
    async with watching(hub, token) as person, connected(hub, identity.tls()) as agent:
        job = JobProgress(command_id=command_id, state=JobState.FINISHED)
        assert (await agent.greet(jobs=[job])).jobs == []
        for frame in (first, other):
            await agent.send(frame)
            await agent.take(CommandResultAck)
        shown = await view(person, command_id)
        assert (shown["status"], shown["exitCode"]) == ("COMPLETED", 0)
        assert await output(person, command_id) == ("up 3 days, load 0", True)


@asynccontextmanager
async def resumed(hub: MortalHub, identity: Identity, command_id: str, state: JobState) -> AsyncIterator[AgentSocket]:
    async with connected(hub, identity.tls()) as agent:
        welcome = await agent.greet(jobs=[JobProgress(command_id=command_id, state=state)])
        assert welcome.jobs == [command_id]
        yield agent


def said(command_id: str, offset: int, data: str) -> CommandOutput:
    return CommandOutput(command_id=command_id, stream=OutputStream.STDOUT, offset=offset, data=data)


async def view(person: Person, command_id: str) -> Json:
    shown: Json = (await person.do("commands:get", commandId=command_id))["command"]
    return shown


async def output(person: Person, command_id: str) -> tuple[str, Any]:
    page = await person.do("commands:output", commandId=command_id, stream="stdout")
    return page["data"], page["complete"]
