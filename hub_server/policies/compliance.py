"""What the checks of policies find on machines: judged when something is new, stored when it changes, listed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple, Protocol

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
    section_of,
    security_reading,
    verdict_of,
)
from hub_server.policies.model import Asked, Plan, PlannedCheck, Policy, Reading, Result, ResultKey, Verdict
from hub_server.policies.service import PolicyService
from hub_server.policies.store import ComplianceStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AlertSeverity
from protocol.frames import MetricValue
from protocol.inventory import Section
from protocol.policies import (
    CheckState,
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


class Seen(NamedTuple):
    """What a judgement rests on; another one calls for a new judgement."""

    plan: Plan
    agent_version: str
    hashes: Mapping[str, str]
    sampled_ms: int | None


class Judgement(Struct, frozen=True):
    """`verdicts` run beside the checks of the plan; `worst`: the highest severity of those that failed."""

    seen: Seen
    readings: Mapping[Asked, Reading]
    verdicts: tuple[Verdict, ...]
    worst: AlertSeverity | None
    at_monotonic: float


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
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._policies = policies
        self._machines = machines
        self._inventory = inventory
        self._samples = samples
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
            if self._is_due(machine):
                due.append(machine)
        due.sort(key=lambda machine: machine.organisation_id)
        for organisation_id, of_one in groupby(due, key=lambda machine: machine.organisation_id):
            machines = list(of_one)
            for first in range(0, len(machines), STORED_AT_ONCE):
                await self._judge_all(organisation_id, machines[first : first + STORED_AT_ONCE])
        return len(due)

    def _is_due(self, machine: Machine) -> bool:
        judged, plan = self._judged.get(machine.id), self._plan_of(machine)
        if judged is None or judged.seen.plan is not plan:
            return bool(plan.checks) or judged is not None or machine.id in self._with_results
        if not plan.checks:
            return False
        is_old = self._clock.monotonic() - judged.at_monotonic >= AGAIN_AFTER_SECONDS
        return is_old or judged.seen != self._seen(machine, plan)

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
        }
        stored = (judgements.keys() - changed.keys()) | set(await self._stored(organisation_id, changed))
        for agent_id in stored:
            if self._machines.exists(organisation_id, agent_id):
                self._keep(organisation_id, agent_id, judgements[agent_id])

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
        return Judgement(seen, readings, verdicts, worst_of(plan, verdicts), self._clock.monotonic())

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

    async def _stored(self, organisation_id: str, judgements: Mapping[str, Judgement]) -> Collection[str]:
        """Store what is new in `judgements`; return whose are stored."""
        try:
            await self._store_all(organisation_id, judgements)
        except IntegrityError:  # a machine or a policy was deleted meanwhile: each for itself, the next round sees it
            return [
                agent_id
                for agent_id, judgement in judgements.items()
                if await self._is_stored(organisation_id, {agent_id: judgement})
            ]
        return list(judgements)

    async def _is_stored(self, organisation_id: str, judgements: Mapping[str, Judgement]) -> bool:
        try:
            await self._store_all(organisation_id, judgements)
        except IntegrityError:
            return False
        return True

    async def _store_all(self, organisation_id: str, judgements: Mapping[str, Judgement]) -> None:
        if not judgements:
            return
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            held = await self._store.of_agents(connection, organisation_id, list(judgements))
            wanted = {
                ResultKey(agent_id, one.policy_id, one.check.name): (one.check.severity, verdict)
                for agent_id, judgement in judgements.items()
                for one, verdict in zip(judgement.seen.plan.checks, judgement.verdicts, strict=True)
            }
            changed = []
            for key, (severity, verdict) in wanted.items():
                before = held.get(key)
                since = now if before is None or before.verdict.state is not verdict.state else before.since
                after = Result(
                    organisation_id=organisation_id, key=key, severity=severity, verdict=verdict, since=since
                )
                if after != before:
                    changed.append(after)
            await self._store.save(connection, changed)
            await self._store.delete(connection, organisation_id, held.keys() - wanted.keys())

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


def worst_of(plan: Plan, verdicts: Sequence[Verdict]) -> AlertSeverity | None:
    """Return the highest severity of the checks that failed."""
    failed = {
        one.check.severity
        for one, verdict in zip(plan.checks, verdicts, strict=True)
        if verdict.state is CheckState.FAILED
    }
    return next((severity for severity in reversed(AlertSeverity) if severity in failed), None)


def plan_for(policies: Iterable[Policy], tags: Collection[str]) -> Plan:
    """Return the checks of a machine with these tags."""
    holding = sorted((policy for policy in policies if policy.holds_for(tags)), key=lambda policy: policy.id)
    checks = tuple(PlannedCheck(policy.id, check) for policy in holding for check in policy.terms.checks)
    inventory = dict.fromkeys(_asked(one) for one in checks if section_of(one.check.fact) is not None)
    return Plan(checks, tuple(inventory))


def _asked(planned: PlannedCheck) -> Asked:
    return Asked(planned.check.fact, planned.check.subject)
