"""The agent in the simulation: its real jobs, journal, capture, verification and reporter, put together as it does.

What changes in how the agent is put together is followed up here and in stage.py, and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent_client.execution.jobs import JobBounds, Jobs
from agent_client.execution.journal import Journal
from agent_client.execution.reporting import Reporter
from agent_client.execution.scripts import Scripts
from agent_client.execution.terms import Terms
from agent_client.execution.verification import Audience
from protocol.codec import decode_hub_frame
from protocol.enumerations import JobState
from protocol.frames import (
    AgentFrame,
    Command,
    CommandCancel,
    CommandOutputAck,
    CommandQuery,
    CommandResultAck,
    Hello,
    HubFrame,
    JobProgress,
    StreamState,
    StreamStates,
    Welcome,
)
from protocol.limits import OUTPUT_CREDITS
from tests.simulation.agent_disk import AgentDatabase, AgentDisk
from tests.simulation.chance import Chance
from tests.simulation.life import Life
from tests.simulation.network import Link, LinkBroken, Network
from tests.simulation.scripted_process import ScriptedActions, Workshop, workshop
from tests.simulation.stage import ORGANISATION, TRUST, SkewedClock, is_signed_by
from tests.simulation.truth import Records

RUNNING_MAX: Final = 2
ACK_TIMEOUT_SECONDS: Final = 10.0
WELCOME_SECONDS: Final = 10.0
FAREWELL_SECONDS: Final = 3.0
KILL_GRACE_SECONDS: Final = 1.0
EXECUTOR_SILENT: Final = 0.1
"""How often the process that runs jobs does not answer in time, so that `hello` names none of them."""
_NO_SPOOL: Final = StreamState(epoch=1, oldest=1, newest=0)


class AgentMachine:
    """What outlives an agent's process."""

    def __init__(self, agent_id: str, folder: Path, skew_seconds: float, records: Records) -> None:
        self.agent_id = agent_id
        self.folder = folder / agent_id
        self.clock = SkewedClock(skew_seconds)
        self.records = records
        self.disk = AgentDisk(records.job_on_disk)

    def cut_power(self, chance: Chance) -> None:
        """Leave what was written durably, and any beginning of each file of output."""
        self.disk.cut_power()
        for truth in self.records.truths:
            truth.lost_power = truth.lost_power or truth.agent_id == self.agent_id
        for path in sorted((self.folder / "output").glob("*.std*")):
            os.truncate(path, chance.number(0, path.stat().st_size))


class AgentProcess:
    """One life of an agent: its jobs, and one session after the other."""

    def __init__(self, life: Life, machine: AgentMachine, network: Network) -> None:
        self.life = life
        self._machine = machine
        self._network = network
        self._stop = asyncio.Event()
        terms = Terms(Audience(ORGANISATION, machine.agent_id), TRUST, frozenset({"exec"}))
        self.jobs = Jobs(
            Journal(AgentDatabase(machine.disk, life), machine.clock),
            lambda: terms,
            machine.clock,
            machine.folder / "output",
            JobBounds(RUNNING_MAX, KILL_GRACE_SECONDS),
            is_signed_by,
            ScriptedActions(Scripts(machine.folder / "scripts"), KILL_GRACE_SECONDS),
        )

    async def run(self) -> None:
        """Work until `stop()`: then end in order, as the agent does at SIGTERM."""
        workshop.set(Workshop(self.life, self._machine.records, self._machine.clock.now_ms))
        try:
            async with asyncio.TaskGroup() as tasks:
                jobs = tasks.create_task(self.jobs.run(), name="jobs")
                talk = tasks.create_task(self._talk(), name="talk")
                await self._stop.wait()
                jobs.cancel()
                with suppress(TimeoutError):
                    async with asyncio.timeout(FAREWELL_SECONDS):
                        await asyncio.wait([jobs])
                        await self.jobs.told()
                talk.cancel()
        finally:
            self.jobs.close()

    def stop(self) -> None:
        self._stop.set()

    async def _talk(self) -> None:
        while True:
            link = self._network.connect(self._machine.agent_id)
            if link is not None:
                try:
                    await self._session(link)
                except* (LinkBroken, TimeoutError):
                    pass
                finally:
                    link.close()
            await asyncio.sleep(self.life.chance.between(0.2, 4.0))

    async def _session(self, link: Link) -> None:
        """As agent_client.transport.session, for what concerns jobs."""

        async def send(frame: AgentFrame) -> None:
            self.life.check()
            link.to_hub.send(frame)

        is_known = not self.life.chance.happens(EXECUTOR_SILENT)
        hello = _hello(self.jobs.progress() if is_known else [])
        link.to_hub.send(hello, surely=True)
        async with asyncio.timeout(WELCOME_SECONDS):
            while not isinstance(welcome := decode_hub_frame(await link.to_agent.receive()), Welcome):
                pass
        reporter = Reporter(
            self.jobs,
            send,
            self._machine.clock,
            said_in_hello=hello.jobs,
            window=OUTPUT_CREDITS,
            ack_timeout_seconds=ACK_TIMEOUT_SECONDS,
        )
        self.jobs.held_open(welcome.jobs)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reporter.run(), name="reporter")
            while True:
                frame = decode_hub_frame(await link.to_agent.receive())
                self.life.check()
                answer = self._take(frame, reporter)
                if answer is not None:
                    await send(answer)

    def _take(self, frame: HubFrame, reporter: Reporter) -> AgentFrame | None:
        """As agent_client.transport.dispatch, for what concerns jobs."""
        jobs = self.jobs
        match frame:
            case Command():
                return jobs.receive(frame)
            case CommandCancel(command_id=command_id):
                self._cancel(command_id)
                return None if command_id in jobs.open else jobs.state_of(command_id)
            case CommandQuery(command_id=command_id):
                return jobs.state_of(command_id)
            case CommandOutputAck():
                reporter.output_acknowledged(frame)
            case CommandResultAck(command_id=command_id):
                jobs.settled(command_id)
            case _:
                pass
        return None

    def _cancel(self, command_id: str) -> None:
        job, truth = self.jobs.open.get(command_id), self._machine.records.of_id.get(command_id)
        is_waiting = job is not None and job.state is JobState.ACCEPTED
        self.jobs.cancel(command_id)
        if truth is not None and is_waiting:
            truth.is_cancelled_before_start = True


def _hello(jobs: list[JobProgress]) -> Hello:
    return Hello(
        protocol=(1, 1),
        agent_version="1",
        boot_id="b",
        clock_ms=0,
        monotonic_ms=0,
        streams=StreamStates(live=_NO_SPOOL, backfill=_NO_SPOOL, events=_NO_SPOOL),
        jobs=jobs,
    )
