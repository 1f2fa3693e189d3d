"""An agent that does what a test wants with the orders it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from protocol.enumerations import CommandOutcome, CommandReason, OutputStream
from protocol.frames import (
    Command,
    CommandAccepted,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandResultAck,
    CommandStarted,
)
from tests.integration.hub import RunningHub
from tests.integration.machine import AgentSocket, Identity, enroll, now_ms
from tests.integration.person import known_to, watching

OUT: Final = OutputStream.STDOUT
ERR: Final = OutputStream.STDERR


async def joined(hub: RunningHub, folder: Path, hostname: str) -> Identity:
    identity = await enroll(hub, folder, hostname)
    async with watching(hub, await hub.sign_in()) as person:
        await known_to(person, identity.agent_id)
    return identity


async def begin(agent: AgentSocket) -> str:
    """Take an order and say that it runs."""
    command_id = (await agent.take(Command)).command_id
    await agent.send(CommandAccepted(command_id=command_id, ts=now_ms()))
    await agent.send(CommandStarted(command_id=command_id, ts=now_ms()))
    return command_id


async def write(agent: AgentSocket, command_id: str, stream: OutputStream, offset: int, data: str) -> int:
    await agent.send(CommandOutput(command_id=command_id, stream=stream, offset=offset, data=data))
    ack = await agent.take(CommandOutputAck, lambda ack: (ack.command_id, ack.stream) == (command_id, stream))
    return ack.offset


async def finish(
    agent: AgentSocket,
    command_id: str,
    status: CommandOutcome = CommandOutcome.COMPLETED,
    exit_code: int | None = 0,
    reason: CommandReason | None = None,
) -> None:
    await agent.send(CommandResult(command_id=command_id, status=status, exit_code=exit_code, reason=reason))
    await agent.take(CommandResultAck)
