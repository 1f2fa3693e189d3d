"""How long a command takes, from asking for it to its first output and its result at the dashboard that asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub_server.bench.figures import Figure, Target, spread
from hub_server.bench.processes import BenchFailed
from protocol.commands import CommandReply
from protocol.operations import AgentsListReply
from scripts.load.person import Person, Refused, dashboard
from scripts.measures.options import Options
from scripts.measures.stage import Stage

OUTPUT: Final = "agent:command:output"
RESULT: Final = "agent:command:result"
EVENT_DEADLINE_SECONDS: Final = 10.0
WARM_UP: Final = 3
FIRST_OUTPUT_TARGET: Final = Target(p50=6.0, p99=25.0)


class Stopwatch:
    """Notes when each event of a command came to this dashboard, also before it is known whose command it is."""

    def __init__(self) -> None:
        self._arrived_at: dict[tuple[str, str], float] = {}
        self._bell = asyncio.Event()

    @property
    def handlers(self) -> Mapping[str, Any]:
        return {OUTPUT: self._on_output, RESULT: self._on_result}

    async def arrival(self, event: str, command_id: str) -> float:
        """Return the time of the first such event of a command. Raises BenchFailed when none comes."""
        try:
            async with asyncio.timeout(EVENT_DEADLINE_SECONDS):
                while (event, command_id) not in self._arrived_at:
                    self._bell.clear()
                    await self._bell.wait()
        except TimeoutError as late:
            raise BenchFailed(f"no {event} of command {command_id} within {EVENT_DEADLINE_SECONDS:g} s") from late
        return self._arrived_at[event, command_id]

    async def _on_output(self, body: Any) -> None:
        self._note(OUTPUT, body)

    async def _on_result(self, body: Any) -> None:
        self._note(RESULT, body)

    def _note(self, event: str, body: Any) -> None:
        self._arrived_at.setdefault((event, body["commandId"]), time.perf_counter())
        self._bell.set()


async def run_command(
    person: Person, watch: Stopwatch, agent_id: str, argv: Sequence[str], events: Sequence[str]
) -> list[float]:
    """Run one command and return the milliseconds from asking to each of `events`. Raises BenchFailed."""
    began_at = time.perf_counter()
    try:
        reply = await person.ask("commands:create", agentId=agent_id, commandData={"argv": list(argv)})
    except Refused as refused:
        raise BenchFailed(str(refused)) from refused
    assert isinstance(reply, CommandReply)
    return [(await watch.arrival(event, reply.command.id) - began_at) * 1000 for event in events]


async def measure(options: Options, stage: Stage) -> Sequence[Figure]:
    """Run commands one after the other on a simulated agent, which shows the hub's share, and on the real one."""
    await stage.agent.start()
    watch = Stopwatch()
    async with dashboard(stage.hub.web_url, stage.access_token, watch.handlers) as person:
        runs = Runs(person, watch, options)
        simulated = await runs.took(await agent_named(person, "simulated-00000"), ["simulated"], (OUTPUT, RESULT))
        echo = await runs.took(stage.agent.id, ["echo", "x"], (OUTPUT, RESULT))
        true = await runs.took(stage.agent.id, ["true"], (RESULT,))
    await stage.agent.stop()
    note = f"with {options.agents} agents connected"
    return [
        spread("command → first output, simulated agent", "ms", simulated[OUTPUT], note=note),
        spread("command → result, simulated agent", "ms", simulated[RESULT], note=note),
        spread("command → first output, real agent runs echo", "ms", echo[OUTPUT], FIRST_OUTPUT_TARGET, note),
        spread("command → result, real agent runs echo", "ms", echo[RESULT], note=note),
        spread("command → result, real agent runs true", "ms", true[RESULT], note=note),
    ]


@dataclass(frozen=True, slots=True)
class Runs:
    """Many commands, one after the other."""

    person: Person
    watch: Stopwatch
    options: Options

    async def took(self, agent_id: str, argv: Sequence[str], events: Sequence[str]) -> Mapping[str, list[float]]:
        """Return event → milliseconds of each command, after a few that do not count. Raises BenchFailed."""
        took: dict[str, list[float]] = {event: [] for event in events}
        for turn in range(WARM_UP + self.options.commands):
            milliseconds = await run_command(self.person, self.watch, agent_id, argv, events)
            if turn >= WARM_UP:
                for event, value in zip(events, milliseconds, strict=True):
                    took[event].append(value)
            await asyncio.sleep(self.options.command_pause_seconds)
        return took


async def agent_named(person: Person, hostname: str) -> str:
    """Return the id of the agent of this host name. Raises BenchFailed."""
    reply = await person.ask("agents:list", filter={"text": hostname}, limit=1)
    assert isinstance(reply, AgentsListReply)
    if not reply.agents:
        raise BenchFailed(f"the hub lists no agent {hostname}")
    return reply.agents[0].id
