"""One world from one seed: a hub, a few agents, people who give orders, and whatever can go wrong, until it heals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from protocol.commands import CommandsCancel, CommandsCreate
from protocol.enumerations import OutputStream
from protocol.envelope import JobEnvelope
from tests.simulation.agent_side import AgentMachine, AgentProcess
from tests.simulation.chance import Chance
from tests.simulation.hub_database import HubDatabase, HubDisk
from tests.simulation.hub_side import PRINCIPAL, HubProcess
from tests.simulation.life import Life
from tests.simulation.network import FINE, Network, Weather
from tests.simulation.promises import Promises
from tests.simulation.stage import SimulatedSigner, SkewedClock
from tests.simulation.truth import Plan, Records, Step, Truth
from tests.simulation.verdict import Said, breaches_of

T = TypeVar("T")
Ask = Callable[[HubProcess], Coroutine[Any, Any, T]]

STORM: Final = Weather(lost=0.06, repeated=0.06, late=0.1)
HUB_CRASH_CHANCE: Final = 0.015
AGENT_CRASH_CHANCE: Final = 0.03
DISK_FAILURE_CHANCE: Final = 0.01
LATENCY_SECONDS: Final = 0.02
SKEW_SECONDS: Final = 2.0
STORM_SECONDS: Final = (20.0, 60.0)
EXPIRIES_SECONDS: Final = (5, 20, 60, 600, 600, 600)
CALM_SECONDS: Final = 1200.0
LOOK_SECONDS: Final = 1.0
ENOUGH_SECONDS: Final = 60.0
"""An order that has this long left when all is well again does not expire."""


class World:
    """`run` returns once everything has come to rest, or was given time enough to."""

    def __init__(self, chance: Chance, folder: Path, disk: HubDisk) -> None:
        self._chance = chance
        self.records = Records(chance.trace)
        self.promises = Promises(self.records)
        self._network = Network(chance)
        self._network.weather = STORM
        self._disk = disk
        disk.reset(self.promises)
        self._folder = folder
        self._heals_at = chance.between(*STORM_SECONDS)
        self._hub: HubProcess | None = None
        self._agents: dict[str, AgentProcess] = {}
        self._machines = [self._machine(f"a{number}") for number in range(1, chance.number(1, 2) + 1)]
        self._healed_at = 0.0
        self._is_over = False

    async def run(self) -> list[str]:
        """Return every breach of a promise."""
        loop = asyncio.get_running_loop()
        keepers = [loop.create_task(self._keep_hub())]
        keepers += [loop.create_task(self._keep_agent(machine)) for machine in self._machines]
        try:
            async with asyncio.timeout(CALM_SECONDS), asyncio.TaskGroup() as tasks:
                for number in range(self._chance.number(3, 7)):
                    tasks.create_task(self._order(self._truth(number)))
                tasks.create_task(self._trouble())
        except TimeoutError:
            self.records.breach("somebody asked, and never got an answer")
        await self._rest()
        self._judge()
        self._is_over = True
        for process in (self._hub, *self._agents.values()):
            if process is not None:
                process.life.kill("the end")
        await asyncio.wait(keepers)
        for keeper in keepers:
            keeper.result()
        return self.records.breaches

    # Processes that are started again whenever they have ended.

    async def _keep_hub(self) -> None:
        while not self._is_over:
            life = Life("hub", self._chance, self._now_or_never(HUB_CRASH_CHANCE))
            failure_chance = self._now_or_never(DISK_FAILURE_CHANCE)
            database = HubDatabase(self._disk, life, latency_seconds=LATENCY_SECONDS, failure_chance=failure_chance)
            signer = SimulatedSigner(self._is_forged)
            self._hub = HubProcess(life, database, signer, self._network, self.promises.hub_says)
            life.begin(self._hub.run())
            await self._end_of(life)
            self._network.hub_is_gone()
            self._disk.rollback()
            await self._pause()

    async def _keep_agent(self, machine: AgentMachine) -> None:
        while not self._is_over:
            life = Life(machine.agent_id, self._chance, self._now_or_never(AGENT_CRASH_CHANCE))
            life.begin(self._live(machine, life))
            await self._end_of(life)
            self._network.break_links(machine.agent_id)
            self._mark_cut(machine.agent_id, life)
            if life.is_powerless:
                machine.cut_power(self._chance)
            else:
                machine.disk.undo()
            await self._pause()

    async def _live(self, machine: AgentMachine, life: Life) -> None:
        process = self._agents[machine.agent_id] = AgentProcess(life, machine, self._network)
        await process.run()

    async def _end_of(self, life: Life) -> None:
        fault = await life.buried()
        if fault is not None:
            self.records.breach(f"{life.name} failed: {fault!r}")

    def _mark_cut(self, agent_id: str, life: Life) -> None:
        for truth in self.records.truths:
            if truth.agent_id == agent_id and truth.end is not None and truth.ended_at == life.died_at:
                truth.is_cut_at_its_end = True

    async def _pause(self) -> None:
        if not self._is_over:
            await asyncio.sleep(self._chance.between(0.2, 8.0))

    # What goes wrong.

    async def _trouble(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._chance.between(0.5, 8.0))
            if loop.time() >= self._heals_at:
                return
            machine = self._chance.one_of(self._machines)
            process = self._agents.get(machine.agent_id)
            match self._chance.number(1, 7):
                case 1 if self._hub is not None:
                    self._hub.life.kill("trouble")
                case 2 if process is not None:
                    process.life.kill("trouble")
                case 3 if process is not None and not process.life.is_dead:
                    process.life.is_powerless = True
                    process.life.kill("a cut of power")
                case 4 if process is not None:
                    self._chance.trace(f"{machine.agent_id} is stopped in order")
                    process.stop()
                case 5:
                    self._network.break_links(machine.agent_id)
                case 6:
                    self._part(machine.agent_id)
                case _:
                    pass

    def _part(self, agent_id: str) -> None:
        seconds = self._chance.between(1, 40)
        self._network.part(agent_id, self._chance.between(1, 30))
        asyncio.get_running_loop().call_later(seconds, self._network.rejoin, agent_id)

    def _now_or_never(self, probability: float) -> float:
        """Return `probability` as long as things go wrong."""
        return probability if asyncio.get_running_loop().time() < self._heals_at else 0.0

    async def _rest(self) -> None:
        """Let nothing go wrong any more, and wait until nothing is open."""
        self._chance.trace("all is well from here on")
        self._network.weather = FINE
        for process in (self._hub, *self._agents.values()):
            if process is not None:
                process.life.crash_chance = 0.0
        if self._hub is not None:
            self._hub.database.failure_chance = 0.0
        loop = asyncio.get_running_loop()
        self._heals_at = min(self._heals_at, loop.time())
        healed_at = self._healed_at = loop.time()
        while loop.time() < healed_at + CALM_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            if not self.promises.open_count and not any(agent.jobs.open for agent in self._agents.values()):
                return

    # People.

    def _truth(self, number: int) -> Truth:
        truth = Truth(
            number=number,
            agent_id=self._chance.one_of(self._machines).agent_id,
            key=f"order-{number}",
            plan=self._plan(),
            expires_in_seconds=self._chance.one_of(EXPIRIES_SECONDS),
        )
        self.records.truths.append(truth)
        return truth

    def _plan(self) -> Plan:
        steps = tuple(
            Step(
                after_seconds=self._chance.one_of((0.0, 0.1, 1.0, 5.0)),
                stream=self._chance.one_of(tuple(OutputStream)),
                data=self._chance.some_bytes(self._chance.number(1, 700)),
            )
            for _ in range(self._chance.number(0, 4))
        )
        return Plan(
            steps=steps,
            exit_code=self._chance.one_of((0, 0, 3)),
            starts=not self._chance.happens(0.05),
            is_forged=self._chance.happens(0.05),
        )

    async def _order(self, truth: Truth) -> None:
        """Ask until there is an answer, perhaps twice at once; perhaps cancel it later."""
        await asyncio.sleep(self._chance.between(0, self._heals_at))
        request = CommandsCreate(
            agent_id=truth.agent_id,
            command_data={"argv": ["job", str(truth.number)]},
            expires_in_sec=truth.expires_in_seconds,
            idempotency_key=truth.key,
        )
        if self._chance.happens(0.1):
            await self._asked(lambda hub: hub.service.create(PRINCIPAL, request), twice=True)
        reply = await self._asked(lambda hub: hub.service.create(PRINCIPAL, request))
        self._chance.trace(f"job {truth.number} is {reply.command.id}")
        if self._chance.happens(0.35):
            await asyncio.sleep(self._chance.one_of((0.0, 0.05, 1.0, 10.0)))
            truth.cancel_asked = True
            self._chance.trace(f"job {truth.number} shall be cancelled")
            cancel = CommandsCancel(command_id=reply.command.id)
            await self._asked(lambda hub: hub.service.cancel(PRINCIPAL, cancel))

    async def _asked(self, ask: Ask[T], *, twice: bool = False) -> T:
        """Ask the hub again and again until it answers."""
        while True:
            hub = self._hub
            if hub is not None and hub.is_up.is_set() and not hub.life.is_dead:
                calls = [call for _ in range(1 + twice) if (call := hub.begin(_answer(ask, hub)))]
                if calls:
                    await asyncio.wait(calls)
                if calls and not calls[0].cancelled() and calls[0].exception() is None:
                    answer = calls[0].result()
                    if answer is not None:
                        return answer
            await asyncio.sleep(self._chance.between(0.05, 2.0))

    def _is_forged(self, payload: bytes) -> bool:
        """Tell whether somebody with the database alters what was signed of this order."""
        argv = msgspec.json.decode(payload, type=JobEnvelope).argv
        return self.records.truths[int(argv[1])].plan.is_forged

    # The end.

    def _judge(self) -> None:
        clock = SkewedClock()
        enough_ms = clock.now_ms() + int((self._healed_at - asyncio.get_running_loop().time() + ENOUGH_SECONDS) * 1000)
        output: dict[str, dict[str, bytes]] = {}
        for command_id, stream, data in self._disk.rows(_OUTPUT):
            streams = output.setdefault(command_id, {})
            streams[stream] = streams.get(stream, b"") + data
        said = {row[0]: row for row in self._disk.rows(_COMMANDS)}
        for truth in self.records.truths:
            if not truth.ids:
                self.records.breach(f"order {truth.number} was answered, and there is no command")
            for command_id in truth.ids & said.keys():
                _, status, reason, exit_code, expires_in_ms = said[command_id]
                could_expire = expires_in_ms <= enough_ms
                found = Said(command_id, (status, reason, exit_code), output.get(command_id, {}))
                for breach in breaches_of(truth, found, could_expire=could_expire):
                    self.records.breach(breach)

    def _machine(self, agent_id: str) -> AgentMachine:
        skew_seconds = self._chance.between(-SKEW_SECONDS, SKEW_SECONDS)
        return AgentMachine(agent_id, self._folder, skew_seconds, self.records)


async def _answer(ask: Ask[T], hub: HubProcess) -> T | None:
    """Return the answer, None when the database took nothing: whoever asked is told to try again."""
    try:
        return await ask(hub)
    except SQLAlchemyError:
        return None


_OUTPUT: Final = "SELECT command_id, stream, data FROM command_output ORDER BY command_id, stream, start_offset"
_COMMANDS: Final = (
    "SELECT id, status, reason, exit_code, CAST(ROUND((julianday(expires_at) - 2440587.5) * 86400000) AS INTEGER) "
    "FROM agent_commands"
)
