"""The room of jobs without its process: lives of it over a folder that outlives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agent_client.execution.jobs import JobBounds, Jobs
from agent_client.execution.journal import Journal
from agent_client.execution.reporting import JobReport, Reporter
from agent_client.execution.terms import Terms
from agent_client.execution.verification import Audience
from agent_client.spool.database import Database
from agent_client.trust.document import parse_trust
from protocol.enumerations import Action, JobState, OutputStream
from protocol.frames import Command, CommandOutput, CommandResult, JobProgress
from tests.agent_client.clock import SteppingClock
from tests.agent_client.fleet import AGENT, ORGANISATION, Fleet, Signer

FLEET = Fleet()
OUT = OutputStream.STDOUT
BOUNDS = JobBounds(running_max=2, kill_grace_seconds=0.2)


class Life:
    """One life of the agent's job room over a folder that outlives it."""

    def __init__(self, folder: Path, clock: SteppingClock, actions: frozenset[str] = frozenset(Action)) -> None:
        self.clock = clock
        self.trust = parse_trust(FLEET.trust())
        self.database = Database(folder / "spool.db")
        self.journal = Journal(self.database, clock)
        self.terms = Terms(Audience(ORGANISATION, AGENT), self.trust, actions)
        self.jobs = Jobs(self.journal, lambda: self.terms, clock, folder / "jobs", BOUNDS)
        self.sent: list[JobReport] = []
        self.arrived = asyncio.Condition()

    async def send(self, frame: JobReport) -> None:
        self.sent.append(frame)
        async with self.arrived:
            self.arrived.notify_all()

    def reporter(self, said: list[JobProgress] | None = None, window: int = 16, ack_timeout: float = 30) -> Reporter:
        return Reporter(
            self.jobs, self.send, self.clock, said_in_hello=said or [], window=window, ack_timeout_seconds=ack_timeout
        )

    @asynccontextmanager
    async def running(self, reporter: Reporter | None = None) -> AsyncIterator[Reporter]:
        chosen = reporter or self.reporter()
        with suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self.jobs.run(), name="jobs"),
                    group.create_task(chosen.run(), name="reporter"),
                ]
                yield chosen
                for task in tasks:
                    task.cancel()

    async def first(self, kind: type[Any], count: int = 1) -> Any:
        def found() -> list[Any]:
            return [frame for frame in self.sent if isinstance(frame, kind)]

        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: len(found()) >= count)
        return found()[count - 1]

    async def finished(self, job_id: str) -> None:
        """Wait for the end of a job that is not told yet."""
        async with asyncio.timeout(30):
            while self.jobs.state_of(job_id).state is not JobState.FINISHED:  # noqa: ASYNC110  there is no event
                await asyncio.sleep(0.01)

    def results(self) -> list[CommandResult]:
        return [frame for frame in self.sent if isinstance(frame, CommandResult)]

    def output(self) -> str:
        return "".join(frame.data for frame in self.sent if isinstance(frame, CommandOutput))

    def close(self) -> None:
        self.jobs.close()
        self.database.close()


def order(job_id: str, *argv: str, signer: Signer | None = None, **changes: Any) -> Command:
    return FLEET.command(FLEET.envelope(job_id, list(argv), **changes), signer)
