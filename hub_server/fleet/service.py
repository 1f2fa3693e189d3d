"""What can be asked of the fleet. Every agent is also in memory, so that lists and sessions wait for no database."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import UNSET, Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.audit.record import record
from hub_server.bus.port import Bus
from hub_server.clock import Clock
from hub_server.errors import NotFound
from hub_server.events import AgentChanged, AgentDeleted, Deliver, SessionEndRequested
from hub_server.fleet.model import Agent, hash_of, with_system_information
from hub_server.fleet.name_order import NameOrder
from hub_server.fleet.store import FleetStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.desired import AgentConfig, AgentPolicy, CertificateTerms
from protocol.enumerations import AgentTrust, ConnectionReason, DesiredName
from protocol.envelope import SignedTrust
from protocol.frames import Desired, Hello, StateHashes, SystemInformation
from protocol.operations import AgentsDelete, AgentsUpdate, Thresholds

log = structlog.get_logger(component="fleet")


Purge = Callable[[AsyncConnection, str, str], Awaitable[None]]
"""Takes (organisation, agent) out of another subject, in the transaction that deletes the agent."""


class Anchor(Protocol):
    """What agents are told to trust; it changes when the hub's authorities rotate."""

    @property
    def trust(self) -> SignedTrust: ...
    @property
    def certificate_terms(self) -> CertificateTerms: ...


class FleetService:
    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        store: FleetStore,
        anchor: Anchor,
        purges: Sequence[Purge],
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._purges = purges
        self._anchor = anchor
        self._policy = AgentPolicy()
        self._agents: dict[str, dict[str, Agent]] = {}
        self._by_id: dict[str, Agent] = {}
        self._by_name: dict[str, NameOrder] = {}
        self._trust_changes = 0
        self._anchored_offers: tuple[tuple[SignedTrust, CertificateTerms], list[Desired]] | None = None

    async def load(self) -> None:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            for agent in await self._store.load_all(connection):
                self._keep(agent)

    def agents(self, organisation_id: str) -> Mapping[str, Agent]:
        return self._agents.get(organisation_id, {})

    def by_name(self, organisation_id: str) -> NameOrder:
        return self._by_name.setdefault(organisation_id, NameOrder())

    def get(self, organisation_id: str, agent_id: str) -> Agent:
        """Raises NotFound for an agent that is not of this organisation."""
        agent = self.agents(organisation_id).get(agent_id)
        if agent is None:
            raise NotFound(f"there is no agent {agent_id!r} in your organisation", path="$.agentId")
        return agent

    def everywhere(self) -> Iterable[Agent]:
        """Return the agents of every organisation."""
        return self._by_id.values()

    def exists(self, organisation_id: str, agent_id: str) -> bool:
        return agent_id in self.agents(organisation_id)

    def hostname_of(self, organisation_id: str, agent_id: str) -> str:
        agent = self.agents(organisation_id).get(agent_id)
        return agent.hostname if agent else ""

    def site_of(self, agent_id: str) -> str:
        agent = self._by_id.get(agent_id)
        return agent.site if agent else ""

    def thresholds_of(self, agent_id: str) -> Thresholds:
        agent = self._by_id.get(agent_id)
        return agent.thresholds if agent else Thresholds()

    async def find(self, organisation_id: str, agent_id: str) -> Agent | None:
        """Return the agent, also one that was enrolled a moment ago or through another hub."""
        agent = self.agents(organisation_id).get(agent_id)
        if agent is None:
            async with self._database.read(organisation_id) as connection:
                agent = await self._store.find(connection, organisation_id, agent_id)
            if agent is not None:
                self._keep(agent)
        return agent

    async def register(
        self,
        connection: AsyncConnection,
        *,
        organisation_id: str,
        hostname: str,
        sysinfo: SystemInformation,
        agent_version: str,
        boot_id: str,
        site: str,
        tags: list[str],
    ) -> str:
        """Add an agent in the transaction of its enrollment and return its id; AgentEnrolled then indexes it."""
        agent = Agent(
            id=str(uuid.uuid4()),
            organisation_id=organisation_id,
            hostname=hostname,
            name=hostname,
            site=site,
            tags=tags,
            os_type=sysinfo.os,
            os_version=sysinfo.os_version,
            arch=sysinfo.arch,
            cpu_count=sysinfo.cpu_count,
            memory_total_bytes=sysinfo.memory_total_bytes,
            ip_addresses=sysinfo.ip_addresses,
            agent_version=agent_version,
            boot_id=boot_id,
            config=AgentConfig(),
            thresholds=Thresholds(),
            applied_config_hash="",
            enrolled_at=self._clock.now(),
        )
        await self._store.add(connection, agent)
        return agent.id

    async def update(self, principal: Principal, request: AgentsUpdate) -> Agent:
        organisation_id = authorize(principal, Permission.FLEET_WRITE)
        before = self.get(organisation_id, request.agent_id)
        changes = _changes(before, request)
        if not changes:
            return before
        async with self._database.write(organisation_id) as connection:
            if not await connection.run_sync(self._store.update, organisation_id, before.id, changes):
                raise self._deleted(before)
            await record(
                connection,
                organisation_id=organisation_id,
                at=self._clock.now(),
                actor=principal.actor,
                action="agents:update",
                target=f"agent:{before.id}",
                detail={key: msgspec.to_builtins(value) for key, value in changes.items()},
            )
        agent = self._changed(before, changes)
        if "config" in changes:
            offer = self._desired_config(agent)
            self._bus.publish(Deliver(organisation_id=organisation_id, agent_id=agent.id, frame=offer))
        return agent

    async def delete(self, principal: Principal, request: AgentsDelete) -> None:
        organisation_id = authorize(principal, Permission.FLEET_DELETE)
        agent = self.get(organisation_id, request.agent_id)
        async with self._database.write(organisation_id) as connection:
            # The lock first: no certificate is issued meanwhile.
            await connection.run_sync(self._store.lock_trust, organisation_id, agent.id)
            for purge in self._purges:
                await purge(connection, organisation_id, agent.id)
            await self._store.delete(connection, organisation_id, agent.id)
            await record(
                connection,
                organisation_id=organisation_id,
                at=self._clock.now(),
                actor=principal.actor,
                action="agents:delete",
                target=f"agent:{agent.id}",
                detail={"hostname": agent.hostname},
            )
        self.forget(organisation_id, agent.id)
        self._bus.publish(
            SessionEndRequested(organisation_id=organisation_id, agent_id=agent.id, reason=ConnectionReason.REVOKED)
        )
        self._bus.publish(AgentDeleted(organisation_id=organisation_id, agent_id=agent.id, hostname=agent.hostname))

    async def greeted(self, agent: Agent, hello: Hello) -> Agent:
        """Note what an agent said of itself at its hello; written only when something is new.

        Raises NotFound when it was deleted meanwhile.
        """
        said = {
            "agent_version": hello.agent_version,
            "boot_id": hello.boot_id,
            "applied_config_hash": hello.hashes.config,
        }
        return await self._note(agent, said)

    def is_described(self, organisation_id: str, agent_id: str, sysinfo: SystemInformation) -> bool:
        """Tell whether `described` would change nothing. Raises NotFound when the agent was deleted meanwhile."""
        agent = self.get(organisation_id, agent_id)
        return with_system_information(agent, sysinfo) == agent

    async def described(self, organisation_id: str, agent_id: str, sysinfo: SystemInformation) -> None:
        """Raises NotFound when the agent was deleted meanwhile."""
        agent = self.get(organisation_id, agent_id)
        await self._note(agent, msgspec.structs.asdict(with_system_information(agent, sysinfo)))

    def desired_hashes(self, agent: Agent) -> dict[DesiredName, str]:
        return {offer.name: offer.hash for offer in self._desired(agent)}

    def offers(self, agent: Agent, applied: StateHashes) -> list[Desired]:
        """Return the desired state that `agent` has not applied yet."""
        return [offer for offer in self._desired(agent) if getattr(applied, offer.name.value) != offer.hash]

    def announce_trust(self) -> None:
        """Offer the newest trust document, then the terms of certificates, to every agent that has a session.

        Said before any job that a new key signs: frames of one agent keep their order.
        """
        offers = self._anchored()
        for agent in list(self._by_id.values()):
            for offer in offers:
                self._bus.publish(Deliver(organisation_id=agent.organisation_id, agent_id=agent.id, frame=offer))

    async def applied(self, organisation_id: str, agent_id: str, name: DesiredName, applied_hash: str) -> None:
        """Raises NotFound when the agent was deleted meanwhile."""
        if name is DesiredName.CONFIG:
            await self._note(self.get(organisation_id, agent_id), {"applied_config_hash": applied_hash})

    def trust_changed(self, agent: Agent, trust: AgentTrust, reason: str) -> Agent:
        """Keep how the agent stands: its transaction is committed."""
        self._trust_changes += 1
        return self._changed(agent, {"trust": trust, "trust_reason": reason})

    def is_revoked(self, organisation_id: str, agent_id: str) -> bool:
        agent = self.agents(organisation_id).get(agent_id)
        return agent is not None and agent.trust is AgentTrust.REVOKED

    def trust_of(self, agent_id: str) -> AgentTrust | None:
        """Return how the agent stands, None when it is not known."""
        agent = self._by_id.get(agent_id)
        return None if agent is None else agent.trust

    def kept_out(self) -> list[Agent]:
        """Return every organisation's agents that are in quarantine or revoked."""
        return [agent for agent in self._by_id.values() if agent.trust is not AgentTrust.TRUSTED]

    async def reload_trust(self) -> None:
        """Learn whom other hubs quarantined, released or revoked."""
        changes_before = self._trust_changes
        async with self._database.read(EVERY_ORGANISATION) as connection:
            stored = {agent.id: agent for agent in await self._store.kept_out(connection)}
        if self._trust_changes != changes_before:
            return  # what was read may be older than what was decided here meanwhile; the next round looks again
        for agent in [*stored.values(), *(held for held in self.kept_out() if held.id not in stored)]:
            trust, reason = (agent.trust, agent.trust_reason) if agent.id in stored else (AgentTrust.TRUSTED, "")
            held = self._by_id.get(agent.id)
            if held is not None and (held.trust, held.trust_reason) != (trust, reason):
                self.trust_changed(held, trust, reason)

    async def reload(self, organisation_id: str, agent_id: str) -> None:
        async with self._database.read(organisation_id) as connection:
            agent = await self._store.find(connection, organisation_id, agent_id)
        if agent is not None:
            self._keep(agent)

    def forget(self, organisation_id: str, agent_id: str) -> None:
        self._agents.get(organisation_id, {}).pop(agent_id, None)
        self._by_id.pop(agent_id, None)
        self.by_name(organisation_id).remove(agent_id)

    def _keep(self, agent: Agent) -> None:
        self._agents.setdefault(agent.organisation_id, {})[agent.id] = agent
        self._by_id[agent.id] = agent
        self.by_name(agent.organisation_id).put(agent)

    async def _note(self, agent: Agent, said: Mapping[str, Any]) -> Agent:
        changes = {name: value for name, value in said.items() if value != getattr(agent, name)}
        if not changes:
            return agent
        work = partial(self._store.update, organisation_id=agent.organisation_id, agent_id=agent.id, changes=changes)
        if not await self._database.transact(agent.organisation_id, work):
            raise self._deleted(agent)
        return self._changed(agent, changes)

    def _deleted(self, agent: Agent) -> NotFound:
        """Forget an agent that the database has no more; return what says so."""
        self.forget(agent.organisation_id, agent.id)
        return NotFound("this agent was deleted meanwhile", path="$.agentId")

    def _changed(self, before: Agent, changes: Mapping[str, Any]) -> Agent:
        """Keep a committed change on top of whatever else was committed while it waited, and say so."""
        agent = msgspec.structs.replace(self._by_id.get(before.id, before), **changes)
        self._keep(agent)
        self._bus.publish(AgentChanged(organisation_id=agent.organisation_id, agent_id=agent.id))
        return agent

    def _desired(self, agent: Agent) -> list[Desired]:
        return [self._desired_config(agent), _offer(DesiredName.POLICY, self._policy), *self._anchored()]

    def _desired_config(self, agent: Agent) -> Desired:
        return _offer(DesiredName.CONFIG, agent.config)

    def _anchored(self) -> list[Desired]:
        """Return what follows from the hub's authorities; trust first, for the terms may name a new one."""
        bodies = (self._anchor.trust, self._anchor.certificate_terms)
        if self._anchored_offers is None or self._anchored_offers[0] != bodies:
            offers = [_offer(DesiredName.TRUST, bodies[0]), _offer(DesiredName.CERTIFICATE, bodies[1])]
            self._anchored_offers = (bodies, offers)
        return self._anchored_offers[1]


def _offer(name: DesiredName, body: Struct) -> Desired:
    return Desired(name=name, hash=hash_of(body), body=msgspec.to_builtins(body))


def _changes(agent: Agent, request: AgentsUpdate) -> dict[str, Any]:
    """Return what `request` names and `agent` does not have yet."""
    given = {key: getattr(request, key) for key in ("name", "tags", "site", "config", "thresholds")}
    if request.config is not UNSET:
        given["config"] = msgspec.convert(request.config, AgentConfig, from_attributes=True)
    return {key: value for key, value in given.items() if value is not UNSET and value != getattr(agent, key)}
