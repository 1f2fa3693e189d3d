"""A fleet with short-lived certificates lives through rotations of its hub's authorities, and notices only the work."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from hub_server.bench.processes import finished, own_program
from protocol.commands import CommandReply, CommandsListReply
from protocol.enumerations import CommandStatus
from scripts.load.person import Person, dashboard
from scripts.load.renewing import RenewingAgent, Seen
from scripts.load.renewing_fleet import renewing_fleet
from scripts.measures.hub import Hub
from scripts.proofs.report import Report

AGENTS: Final = 200
CERTIFICATE_SECONDS: Final = 60
OVERLAP_SECONDS: Final = 12
PKI: Final = {
    "JTNT_PKI__AGENT_CERTIFICATE_SECONDS": str(CERTIFICATE_SECONDS),
    "JTNT_PKI__SERVER_CERTIFICATE_SECONDS": "60",
    "JTNT_PKI__OVERLAP_SECONDS": str(OVERLAP_SECONDS),
    "JTNT_PKI__ISSUING_SECONDS": "3600",
    "JTNT_ACCESS__OPERATIONS_PER_SECOND": "10000",
    "JTNT_ACCESS__OPERATIONS_AT_ONCE": "100000",
}
STEP_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.2
JOB_GAP_SECONDS: Final = 0.2
PAGE: Final = 1000
ENDED: Final = frozenset({CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.CANCELLED})


class Site(NamedTuple):
    """A running hub with short-lived certificates, and how its administrator rotates a key (`agents`, `jobs`)."""

    web_url: str
    agent_port: int
    access_token: str
    join_string: str
    rotate: Callable[[str], Awaitable[Any]]


class Trial:
    """A fleet at work while its hub's keys change. All that must not happen ends up in `problems`."""

    def __init__(self, site: Site, agents: Sequence[RenewingAgent], person: Person, seen: Seen) -> None:
        self._site = site
        self._agents = agents
        self._person = person
        self._seen = seen
        self._ordered: list[str] = []
        self._turns = itertools.cycle(agents)

    async def rotate_issuer(self) -> float:
        """Return the seconds until every agent came over to a certificate of the new authority."""
        before, started = {agent.issuer for agent in self._agents}, time.monotonic()
        await self._site.rotate("agents")
        await self._until(lambda: not before & {agent.issuer for agent in self._agents})
        return time.monotonic() - started

    async def rotate_signer(self) -> float:
        """Return the seconds until jobs of the new key were accepted."""
        known, started = len(self._seen.signers), time.monotonic()
        await self._site.rotate("jobs")
        await self._until(lambda: len(self._seen.signers) > known)
        return time.monotonic() - started

    async def grow_old(self) -> float:
        """Return the seconds until there was one more change of certificate an agent, for no reason but its age."""
        wanted, started = self._seen.handovers + len(self._agents), time.monotonic()
        await self._until(lambda: self._seen.handovers >= wanted)
        return time.monotonic() - started

    async def keep_ordering(self, enough: asyncio.Event) -> None:
        """Order jobs from one agent after the other until there are enough."""
        while not enough.is_set():
            await self.order(next(self._turns))
            with suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), JOB_GAP_SECONDS)

    async def order(self, agent: RenewingAgent) -> None:
        data = {"argv": ["true"]}
        reply = await self._person.ask("commands:create", agentId=agent.agent_id, commandData=data)
        assert isinstance(reply, CommandReply)
        self._ordered.append(reply.command.id)

    async def order_all(self) -> None:
        for agent in self._agents:
            await self.order(agent)

    async def ended(self) -> Counter[CommandStatus]:
        """Return how the jobs ended, once all have."""
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                statuses = await self._statuses()
                if all(status in ENDED for status in statuses):
                    return Counter(statuses)
                await asyncio.sleep(POLL_SECONDS)

    @property
    def job_count(self) -> int:
        return len(self._ordered)

    async def _statuses(self) -> list[CommandStatus]:
        statuses: list[CommandStatus] = []
        while True:
            page = await self._person.ask("commands:list", limit=PAGE, offset=len(statuses))
            assert isinstance(page, CommandsListReply)
            statuses += [command.status for command in page.commands]
            if len(statuses) >= page.total or not page.commands:
                return statuses

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                if is_so():
                    return
                await asyncio.sleep(POLL_SECONDS)


async def lived_through(site: Site, folder: Path, count: int, *, grow_old: bool = False) -> str:
    """Run the whole trial and return its figures. Raises AssertionError for whatever was lost.

    `grow_old`: until every certificate was also renewed because of its age.
    """
    seen, offline = Seen(), Counter[str]()

    def away(event: dict[str, Any]) -> None:
        offline[f"shown offline: {event['reason']}"] += 1

    async with (
        dashboard(site.web_url, site.access_token, {"agent:disconnected": away}) as person,
        renewing_fleet(site.join_string, site.agent_port, folder, count, seen) as agents,
    ):
        trial = Trial(site, agents, person, seen)
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(trial.keep_ordering(enough))
            took = [await trial.rotate_issuer(), await trial.rotate_signer(), await trial.rotate_issuer()]
            if grow_old:
                took.append(await trial.grow_old())
            enough.set()
        await trial.order_all()
        ended = await trial.ended()
        assert not seen.problems, seen.problems
        assert not offline, offline
        assert all(agent.is_connected for agent in agents)
        assert ended == {CommandStatus.COMPLETED: trial.job_count}, (ended, trial.job_count)
        assert seen.handovers >= 2 * count, seen.handovers
        assert len(seen.signers) >= 2, seen.signers
    return (
        f"{count} agents: {seen.handovers} changes of certificate, each make "
        f"before break, no other session lost; {trial.job_count} jobs of {len(seen.signers)} signers, all accepted; "
        f"the steps took {', '.join(f'{seconds:.0f}' for seconds in took)} s"
    )


async def show(report: Report) -> None:
    """Two issuing-CA rotations and one of the signer, under a fleet at work."""

    async def step() -> str:
        with tempfile.TemporaryDirectory(prefix="jtnt-prove-") as name:
            folder = Path(name)
            hub = Hub(folder / "hub", PKI)
            try:
                await hub.start()
                await hub.create_administrator()

                async def rotate(use: str) -> None:
                    await finished(own_program("jtnt-hub", "ca", "rotate", use), hub.environment)

                site = Site(
                    hub.web_url, hub.agent_port, await hub.access_token(), await hub.join_string(AGENTS), rotate
                )
                return await lived_through(site, folder / "agents", AGENTS, grow_old=True)
            finally:
                await hub.stop()

    await report.show(
        f"{AGENTS} agents, two issuing-CA rotations, one of the signer: no session lost, every job accepted",
        step,
    )
