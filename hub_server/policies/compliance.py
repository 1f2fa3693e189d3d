"""What the checks of policies find on machines: judged when something is new, stored when it changes, listed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy.exc import IntegrityError

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.bus.port import Bus
from hub_server.clock import Clock, milliseconds
from hub_server.events import ComplianceChanged
from hub_server.policies.checks import (
    SecurityFacts,
    expected_words,
    inventory_readings,
    results_of,
    section_of,
    security_reading,
    verdict_of,
    worst_of,
)
from hub_server.policies.model import Asked, Plan, PlannedCheck, Policy, Reading, Result, Verdict
from hub_server.policies.service import PolicyService
from hub_server.policies.store import ComplianceStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AlertSeverity
from protocol.frames import MetricValue
from protocol.inventory import Section
from protocol.policies import (
    ComplianceList,
    ComplianceListReply,
    ComplianceResult,
    ComplianceSummary,
    ComplianceSummaryReply,
    ComplianceTotals,
    Fact,
    PolicyCompliance,
)

log = structlog.get_logger(component="policies")

LOOKED_AT_ONCE: Final = 250
"""Machines that are looked over before others have their turn on the event loop."""
STORED_AT_ONCE: Final = 20
"""Machines whose results share a transaction."""
AGAIN_AFTER_SECONDS: Final = 3600.0
"""Ages grow without anybody saying so."""
SECURITY: Final = "security"
NOTHING: Final = ComplianceTotals()


class Machine(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def organisation_id(self) -> str: ...
    @property
    def tags(self) -> list[str]: ...
    @property
    def agent_version(self) -> str: ...


class Machines(Protocol):
    def everywhere(self) -> Iterable[Machine]: ...

    def exists(self, organisation_id: str, agent_id: str) -> bool: ...

    def hostname_of(self, organisation_id: str, agent_id: str) -> str: ...


class Inventory(Protocol):
    def hashes(self, agent_id: str) -> Mapping[str, str]:
        """Return the hash of each section that is stored."""

    async def bodies(self, organisation_id: str, agent_id: str, sections: Collection[Section]) -> Mapping[Section, str]:
        """Return these sections as JSON."""


class Sampled(Protocol):
    @property
    def ts_ms(self) -> int: ...
    @property
    def data(self) -> Mapping[str, MetricValue]: ...


class Samples(Protocol):
    def newest(self, agent_id: str) -> Mapping[str, Sampled]:
        """Return the newest sample of each metric type."""


class Sessions(Protocol):
    """Which machines are connected to this hub."""

    def is_connected(self, agent_id: str) -> bool: ...


class Seen(NamedTuple):
    """What a judgement rests on; another one calls for a new judgement."""

    plan: Plan
    agent_version: str
    hashes: Mapping[str, str]
    sampled_ms: int | None


class Judgement(Struct, frozen=True):
    """`verdicts` run beside the checks of the plan. `worst`: the highest severity of those that failed, by what is
    stored: another hub may know better. `is_here`: the machine is connected to this hub.
    """

    seen: Seen
    readings: Mapping[Asked, Reading]
    verdicts: tuple[Verdict, ...]
    worst: AlertSeverity | None
    at_monotonic: float
    is_here: bool


class ComplianceService:
    """Levels, not edges: each round compares what is known of every machine with what its last judgement rests on."""

    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        store: ComplianceStore,
        policies: PolicyService,
        machines: Machines,
        inventory: Inventory,
        samples: Samples,
        sessions: Sessions,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._policies = policies
        self._machines = machines
        self._inventory = inventory
        self._samples = samples
        self._sessions = sessions
        self._judged: dict[str, Judgement] = {}
        self._with_results: set[str] = set()
        self._plans: dict[tuple[str, tuple[str, ...]], Plan] = {}
        self._earlier_plans = self._plans

    async def load(self) -> None:
        """Learn which machines have results: those of a policy that is no more have to go."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            self._with_results = await self._store.load_agents(connection)

    async def list(self, principal: Principal, request: ComplianceList) -> ComplianceListReply:
        organisation_id = authorize(principal, Permission.POLICIES_READ)
        async with self._database.read(organisation_id) as connection:
            results = await self._store.page(connection, organisation_id, request)
            totals = await self._store.totals(connection, organisation_id, request)
        policies = {policy.id: policy for policy in self._policies.of(organisation_id)}
        counts = {"passed": totals.passed, "failed": totals.failed, "unknown": totals.unknown}
        return ComplianceListReply(
            results=[self._view(result, policies) for result in results],
            totals=totals,
            total=sum(counts.values()) if request.state is None else counts[request.state.value],
            limit=request.limit,
            offset=request.offset,
        )

    async def summary(self, principal: Principal, request: ComplianceSummary) -> ComplianceSummaryReply:  # noqa: ARG002
        organisation_id = authorize(principal, Permission.POLICIES_READ)
        async with self._database.read(organisation_id) as connection:
            machines = await self._store.machines(connection, organisation_id)
            found = await self._store.by_policy(connection, organisation_id)
        policies = sorted(self._policies.of(organisation_id), key=lambda policy: policy.terms.name.casefold())
        return ComplianceSummaryReply(
            machines=machines,
            policies=[
                PolicyCompliance(policy_id=policy.id, policy=policy.terms.name, machines=of_machines, results=results)
                for policy in policies
                for of_machines, results in [found.get(policy.id, (NOTHING, NOTHING))]
            ],
        )

    def forget(self, agent_id: str) -> None:
        self._judged.pop(agent_id, None)
        self._with_results.discard(agent_id)

    async def round(self) -> int:
        """Judge every machine of which something is new, and store what changed. Returns how many were judged.

        Raises what the database raises; the next round goes on where this one ended.
        """
        if self._policies.changed.is_set():
            self._policies.changed.clear()
            self._plans, self._earlier_plans = {}, self._plans
        due: list[Machine] = []
        for number, machine in enumerate(list(self._machines.everywhere())):
            if number % LOOKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            self._note_absence(machine)
            if self._is_due(machine):
                due.append(machine)
        due.sort(key=lambda machine: machine.organisation_id)
        for organisation_id, of_one in groupby(due, key=lambda machine: machine.organisation_id):
            machines = list(of_one)
            for first in range(0, len(machines), STORED_AT_ONCE):
                await self._judge_all(organisation_id, machines[first : first + STORED_AT_ONCE])
        return len(due)

    def _note_absence(self, machine: Machine) -> None:
        """Another hub may have judged the machine by the time when it is back."""
        judged = self._judged.get(machine.id)
        if judged is not None and judged.is_here and not self._sessions.is_connected(machine.id):
            self._judged[machine.id] = msgspec.structs.replace(judged, is_here=False)

    def _is_due(self, machine: Machine) -> bool:
        judged, plan = self._judged.get(machine.id), self._plan_of(machine)
        if judged is None or judged.seen.plan is not plan:
            return bool(plan.checks) or judged is not None or machine.id in self._with_results
        if not plan.checks:
            return False
        is_old = self._clock.monotonic() - judged.at_monotonic >= AGAIN_AFTER_SECONDS
        is_back = not judged.is_here and self._sessions.is_connected(machine.id)
        return is_old or is_back or judged.seen != self._seen(machine, plan)

    async def _judge_all(self, organisation_id: str, machines: Sequence[Machine]) -> None:
        judgements: dict[str, Judgement] = {}
        for machine in machines:
            judgements[machine.id] = await self._judgement(machine)
            await asyncio.sleep(0)
        changed = {
            agent_id: judgement
            for agent_id, judgement in judgements.items()
            if (before := self._judged.get(agent_id)) is None
            or before.seen.plan is not judgement.seen.plan
            or before.verdicts != judgement.verdicts
            or (judgement.is_here and not before.is_here)
        }
        # Before anything is awaited: a machine that is deleted meanwhile is forgotten.
        same = {
            agent_id: msgspec.structs.replace(judgements[agent_id], worst=self._judged[agent_id].worst)
            for agent_id in judgements.keys() - changed.keys()
        }
        for agent_id, judgement in (same | await self._stored(organisation_id, changed)).items():
            if self._machines.exists(organisation_id, agent_id):
                self._keep(organisation_id, agent_id, judgement)

    def _keep(self, organisation_id: str, agent_id: str, judgement: Judgement) -> None:
        before = self._judged.get(agent_id)
        self._judged[agent_id] = judgement
        self._with_results.discard(agent_id)
        if before is None or before.worst is not judgement.worst:
            event = ComplianceChanged(organisation_id=organisation_id, agent_id=agent_id, severity=judgement.worst)
            self._bus.publish(event)

    async def _judgement(self, machine: Machine) -> Judgement:
        plan = self._plan_of(machine)
        seen = self._seen(machine, plan)
        readings = await self._readings(machine, seen)
        sample = self._samples.newest(machine.id).get(SECURITY)
        security = None if sample is None else SecurityFacts(sample.ts_ms, sample.data)
        now_ms = milliseconds(self._clock.now())

        def reading_of(asked: Asked) -> Reading:
            if asked in readings:
                return readings[asked]
            if asked.fact is Fact.AGENT_VERSION:
                return (machine.agent_version,)
            return security_reading(asked.fact, security, now_ms)

        verdicts = tuple(verdict_of(one.check, reading_of(_asked(one))) for one in plan.checks)
        is_here = self._sessions.is_connected(machine.id)
        return Judgement(seen, readings, verdicts, worst_of(plan, verdicts), self._clock.monotonic(), is_here)

    async def _readings(self, machine: Machine, seen: Seen) -> Mapping[Asked, Reading]:
        """Return what the inventory tells; it is read again only when it, or what is asked of it, has changed."""
        before = self._judged.get(machine.id)
        asked = seen.plan.inventory
        if before is not None and before.seen.hashes == seen.hashes and before.seen.plan.inventory == asked:
            return before.readings
        sections = {section for one in asked if (section := section_of(one.fact)) is not None}
        bodies: Mapping[Section, str] = {}
        if sections & seen.hashes.keys():
            bodies = await self._inventory.bodies(machine.organisation_id, machine.id, sections)
        return inventory_readings(asked, bodies)

    async def _stored(self, organisation_id: str, judgements: Mapping[str, Judgement]) -> dict[str, Judgement]:
        """Store what is new in `judgements`; return those that are stored."""
        try:
            return await self._store_all(organisation_id, judgements)
        except IntegrityError:  # a machine or a policy was deleted meanwhile: each for itself, the next round sees it
            stored: dict[str, Judgement] = {}
            for agent_id, judgement in judgements.items():
                with suppress(IntegrityError):
                    stored |= await self._store_all(organisation_id, {agent_id: judgement})
            return stored

    async def _store_all(self, organisation_id: str, judgements: Mapping[str, Judgement]) -> dict[str, Judgement]:
        if not judgements:
            return {}
        now, hub_id = self._clock.now(), self._database.hub_id
        stored: dict[str, Judgement] = {}
        async with self._database.write(organisation_id) as connection:
            held = await self._store.of_agents(connection, organisation_id, list(judgements))
            gone = set(held)
            for agent_id, judgement in judgements.items():
                of_machine = {key: result for key, result in held.items() if key.agent_id == agent_id}
                plan, is_here = judgement.seen.plan, judgement.is_here
                results = results_of(
                    organisation_id,
                    agent_id,
                    plan,
                    judgement.verdicts,
                    of_machine,
                    is_here=is_here,
                    hub_id=hub_id,
                    now=now,
                )
                gone -= {result.key for result in results}
                changed = [result for result in results if result != of_machine.get(result.key)]
                await self._store.save(connection, changed, but_of_others=None if is_here else hub_id)
                worst = worst_of(plan, [result.verdict for result in results])
                stored[agent_id] = msgspec.structs.replace(judgement, worst=worst)
            await self._store.delete(connection, organisation_id, gone)
        return stored

    def _plan_of(self, machine: Machine) -> Plan:
        """Return the same object as long as nothing in it changes."""
        key = (machine.organisation_id, tuple(machine.tags))
        plan = self._plans.get(key)
        if plan is None:
            plan = plan_for(self._policies.of(machine.organisation_id), machine.tags)
            earlier = self._earlier_plans.get(key)
            plan = self._plans[key] = earlier if earlier is not None and earlier == plan else plan
        return plan

    def _seen(self, machine: Machine, plan: Plan) -> Seen:
        sample = self._samples.newest(machine.id).get(SECURITY)
        hashes = dict(self._inventory.hashes(machine.id))
        return Seen(plan, machine.agent_version, hashes, None if sample is None else sample.ts_ms)

    def _view(self, result: Result, policies: Mapping[str, Policy]) -> ComplianceResult:
        key, policy = result.key, policies.get(result.key.policy_id)
        check = next((one for one in policy.terms.checks if one.name == key.check), None) if policy else None
        return ComplianceResult(
            agent_id=key.agent_id,
            hostname=self._machines.hostname_of(result.organisation_id, key.agent_id),
            policy_id=key.policy_id,
            policy=policy.terms.name if policy else "",
            check=key.check,
            expected=expected_words(check) if check else "",
            severity=result.severity,
            state=result.verdict.state,
            found=result.verdict.found,
            since=result.since,
        )


def plan_for(policies: Iterable[Policy], tags: Collection[str]) -> Plan:
    """Return the checks of a machine with these tags."""
    holding = sorted((policy for policy in policies if policy.holds_for(tags)), key=lambda policy: policy.id)
    checks = tuple(PlannedCheck(policy.id, check) for policy in holding for check in policy.terms.checks)
    inventory = dict.fromkeys(_asked(one) for one in checks if section_of(one.check.fact) is not None)
    return Plan(checks, tuple(inventory))


def _asked(planned: PlannedCheck) -> Asked:
    return Asked(planned.check.fact, planned.check.subject)
