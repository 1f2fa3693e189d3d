"""Policies and machines with valid defaults."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.fleet.tables import AgentRow
from hub_server.policies.compliance import ComplianceService
from hub_server.policies.model import Policy, Proposal, Result
from hub_server.policies.service import PolicyService
from hub_server.policies.store import ComplianceStore, PolicyStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.actions import Order, data_of, order_of
from protocol.enumerations import Action, Role
from protocol.frames import MetricValue
from protocol.inventory import Section
from protocol.policies import (
    Check,
    CheckOperator,
    CommandRules,
    ComplianceList,
    ComplianceResult,
    Fact,
    PoliciesCreate,
    PoliciesUpdate,
    PolicyTerms,
    PolicyView,
)
from tests.clocks import FakeClock

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIREWALL = Check(name="Firewall", fact=Fact.FIREWALL_ENABLED, operator=CheckOperator.EQUALS, value=True)
OPENSSL = Check(
    name="OpenSSL", fact=Fact.PACKAGE, operator=CheckOperator.VERSION_AT_LEAST, subject="openssl", value="3.0.13"
)


def policy(
    name: str = "all", *, tags: Sequence[str] = (), rules: Mapping[str, Any] | None = None, **terms: Any
) -> Policy:
    commands = CommandRules(**(rules or {}))
    return Policy(
        id=name,
        organisation_id="o",
        version=1,
        terms=PolicyTerms(name=name, tags=list(tags), commands=commands, **terms),
        created_at=NOON,
        created_by="user:ada",
        changed_at=NOON,
        changed_by="user:ada",
    )


def proposal(order: Order, *, reason: str = "", is_countersigned: bool = False) -> Proposal:
    return Proposal(order=order, reason=reason, is_countersigned=is_countersigned)


def order(action: Action, **data: Any) -> Order:
    return order_of(data_of(action, data))


def program(*argv: str, **data: Any) -> Order:
    return order(Action.EXEC, argv=list(argv), **data)


class Box(Struct, frozen=True):
    """A machine as the fleet knows it."""

    id: str
    organisation_id: str
    tags: list[str]
    agent_version: str


class Sample(Struct, frozen=True):
    ts_ms: int
    data: Mapping[str, MetricValue]


class CountingStore(ComplianceStore):
    """Counts the rows that are written."""

    def __init__(self) -> None:
        self.saved = 0

    async def save(self, connection: AsyncConnection, results: Iterable[Result], *, but_of_others: str | None) -> None:
        written = list(results)
        self.saved += len(written)
        await super().save(connection, written, but_of_others=but_of_others)


class World:
    """Machines in memory and in the database, with what they told; the policies and their checks on top."""

    def __init__(self, database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str) -> None:
        self.database, self.bus, self.clock, self.organisation_id = database, bus, clock, organisation_id
        self.boxes: dict[str, Box] = {}
        self.samples: dict[str, Sample] = {}
        self.sections: dict[str, dict[Section, dict[str, Any]]] = {}
        self.reads: list[str] = []
        self.elsewhere: set[str] = set()
        self.store = CountingStore()
        self.policies = PolicyService(database=database, clock=clock, store=PolicyStore(), machines=self)
        self.compliance = self._compliance()

    def _compliance(self) -> ComplianceService:
        return ComplianceService(
            database=self.database,
            bus=self.bus,
            clock=self.clock,
            store=self.store,
            policies=self.policies,
            machines=self,
            inventory=self,
            samples=self,
            sessions=self,
        )

    async def restart(self) -> None:
        """What a killed hub finds again."""
        self.policies = PolicyService(database=self.database, clock=self.clock, store=PolicyStore(), machines=self)
        self.compliance = self._compliance()
        await self.policies.load()
        await self.compliance.load()

    # What other subjects answer.

    def agents(self, organisation_id: str) -> Mapping[str, Box]:
        return {box.id: box for box in self.boxes.values() if box.organisation_id == organisation_id}

    def everywhere(self) -> Iterable[Box]:
        return self.boxes.values()

    def exists(self, organisation_id: str, agent_id: str) -> bool:
        return agent_id in self.agents(organisation_id)

    def hostname_of(self, organisation_id: str, agent_id: str) -> str:
        return f"host-{agent_id}" if self.exists(organisation_id, agent_id) else ""

    def hashes(self, agent_id: str) -> Mapping[str, str]:
        return {section.value: str(hash(str(terms))) for section, terms in self.sections.get(agent_id, {}).items()}

    def is_connected(self, agent_id: str) -> bool:
        return agent_id not in self.elsewhere

    async def bodies(self, organisation_id: str, agent_id: str, sections: Collection[Section]) -> Mapping[Section, str]:
        assert self.boxes[agent_id].organisation_id == organisation_id
        self.reads.append(agent_id)
        held = self.sections.get(agent_id, {})
        return {section: msgspec.json.encode(held[section]).decode() for section in sections if section in held}

    def newest(self, agent_id: str) -> Mapping[str, Sample]:
        return {"security": self.samples[agent_id]} if agent_id in self.samples else {}

    # What happens.

    async def add(self, agent_id: str, *tags: str, version: str = "1.0") -> None:
        async with self.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(
                insert(AgentRow).values(
                    id=agent_id,
                    organisation_id=self.organisation_id,
                    hostname=agent_id,
                    name=agent_id,
                    os_type="linux",
                    agent_version=version,
                    enrolled_at=self.clock.now(),
                )
            )
        self.tag(agent_id, *tags, version=version)

    def tag(self, agent_id: str, *tags: str, version: str = "1.0") -> None:
        self.boxes[agent_id] = Box(agent_id, self.organisation_id, list(tags), version)

    def tell(self, agent_id: str, **values: MetricValue) -> None:
        """Let a machine send security facts of now."""
        self.samples[agent_id] = Sample(int(self.clock.now().timestamp() * 1000), values)

    def install(self, agent_id: str, **packages: str) -> None:
        items = [{"name": name, "version": version} for name, version in packages.items()]
        self.sections.setdefault(agent_id, {})[Section.PACKAGES] = {"items": items}

    async def make(self, name: str, *checks: Check, **terms: Any) -> PolicyView:
        request = PoliciesCreate(terms=PolicyTerms(name=name, checks=list(checks), **terms))
        return (await self.policies.create(self.admin, request)).policy

    async def change(self, policy_id: str, *checks: Check, version: int | None = None, **terms: Any) -> PolicyView:
        terms = {"name": "changed", **terms}
        request = PoliciesUpdate(policy_id=policy_id, version=version, terms=PolicyTerms(checks=list(checks), **terms))
        return (await self.policies.update(self.admin, request)).policy

    async def results(self, **filters: Any) -> list[ComplianceResult]:
        return (await self.compliance.list(self.viewer, ComplianceList(**filters))).results

    async def states(self) -> dict[tuple[str, str], str]:
        return {(one.agent_id, one.check): one.state.value for one in await self.results()}

    @property
    def admin(self) -> Principal:
        return person(self.organisation_id, Role.ORG_ADMIN)

    @property
    def viewer(self) -> Principal:
        return person(self.organisation_id, Role.VIEWER)


def person(organisation_id: str, role: Role) -> Principal:
    return Principal(user_id="u", username="ada", organisation_id=organisation_id, role=role)
