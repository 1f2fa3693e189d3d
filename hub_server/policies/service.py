"""What can be asked of policies. All are also in memory, so that no job waits for the database to be judged."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import Conflict, Forbidden, InvalidRequest, NotFound, QuotaReached
from hub_server.policies.checks import check_all
from hub_server.policies.engine import decide
from hub_server.policies.model import Policy, Proposal, Refused
from hub_server.policies.store import PolicyStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.actions import AnyData, order_of
from protocol.policies import (
    POLICIES_MAX,
    PoliciesCreate,
    PoliciesDelete,
    PoliciesGet,
    PoliciesList,
    PoliciesListReply,
    PoliciesUpdate,
    PolicyReply,
    PolicyTerms,
    PolicyView,
)
from protocol.requests import Reply

log = structlog.get_logger(component="policies")


TagSets = Mapping[tuple[str, ...], int]
"""How many machines have these tags: there are far fewer sets of tags than machines."""


class Tagged(Protocol):
    @property
    def tags(self) -> list[str]: ...


class Machines(Protocol):
    def agents(self, organisation_id: str) -> Mapping[str, Tagged]:
        """Return the machines of an organisation by id."""


class PolicyService:
    """`changed` is set whenever a policy is new, different or gone; whoever waits for it clears it."""

    def __init__(self, *, database: Database, clock: Clock, store: PolicyStore, machines: Machines) -> None:
        self._database = database
        self._clock = clock
        self._store = store
        self._machines = machines
        self._policies: dict[str, dict[str, Policy]] = {}
        self._changing = asyncio.Lock()
        self.changed: Final = asyncio.Event()

    async def load(self) -> None:
        """Read the policies of every organisation, also those that another hub changed."""
        async with self._changing:
            async with self._database.read(EVERY_ORGANISATION) as connection:
                stored = await self._store.load_all(connection)
            policies: dict[str, dict[str, Policy]] = {}
            for policy in stored:
                policies.setdefault(policy.organisation_id, {})[policy.id] = policy
            if policies != self._policies:
                self._policies = policies
                self.changed.set()

    def of(self, organisation_id: str) -> Sequence[Policy]:
        """Return the policies of an organisation, in no order."""
        return list(self._policies.get(organisation_id, {}).values())

    def check(self, organisation_id: str, agent_id: str, data: AnyData, *, reason: str, is_countersigned: bool) -> None:
        """Raise Forbidden, naming the policy and its rule, when the machine may not be asked to do this."""
        policies = self._policies.get(organisation_id)
        agent = self._machines.agents(organisation_id).get(agent_id)
        if not policies or agent is None:
            return
        proposal = Proposal(order=order_of(data), reason=reason, is_countersigned=is_countersigned)
        decision = decide(proposal, agent.tags, policies.values())
        if isinstance(decision, Refused):
            log.info("job refused", agent_id=agent_id, policy=decision.policy, rule=decision.rule)
            raise Forbidden(decision.message, path=decision.path)

    async def list(self, principal: Principal, request: PoliciesList) -> PoliciesListReply:  # noqa: ARG002
        organisation_id = authorize(principal, Permission.POLICIES_READ)
        policies = sorted(self.of(organisation_id), key=lambda policy: (policy.terms.name.casefold(), policy.id))
        sets = self._tag_sets(organisation_id)
        return PoliciesListReply(policies=[_view(policy, sets) for policy in policies])

    async def get(self, principal: Principal, request: PoliciesGet) -> PolicyReply:
        organisation_id = authorize(principal, Permission.POLICIES_READ)
        policy = self._policies.get(organisation_id, {}).get(request.policy_id)
        return self._reply(_found(policy, request.policy_id))

    async def create(self, principal: Principal, request: PoliciesCreate) -> PolicyReply:
        """Raises Conflict when the name is taken, InvalidRequest for a check that cannot be."""
        organisation_id = authorize(principal, Permission.POLICIES_WRITE)
        now = self._clock.now()
        policy = Policy(
            id=str(uuid.uuid4()),
            organisation_id=organisation_id,
            version=1,
            terms=_checked(request.terms),
            created_at=now,
            created_by=principal.actor,
            changed_at=now,
            changed_by=principal.actor,
        )
        async with self._changing:
            try:
                async with self._database.write(organisation_id) as connection:
                    if await self._store.count(connection, organisation_id) >= POLICIES_MAX:
                        raise QuotaReached(f"an organisation has {POLICIES_MAX} policies at most; put some together")
                    await self._store.add(connection, policy)
                    await self._record(connection, principal, "policies:create", policy)
            except IntegrityError as error:
                raise _taken(policy.terms.name) from error
            self._keep(policy)
        return self._reply(policy)

    async def update(self, principal: Principal, request: PoliciesUpdate) -> PolicyReply:
        """Replace what a policy says. Raises Conflict when somebody was faster, or the name is taken."""
        organisation_id = authorize(principal, Permission.POLICIES_WRITE)
        terms = _checked(request.terms)
        async with self._changing:
            try:
                async with self._database.write(organisation_id) as connection:
                    before = await self._locked(connection, organisation_id, request.policy_id)
                    if request.version not in (None, before.version):
                        raise Conflict(
                            f"{before.changed_by} changed this policy meanwhile; open it again", path="$.version"
                        )
                    policy = msgspec.structs.replace(
                        before,
                        terms=terms,
                        version=before.version + 1,
                        changed_at=self._clock.now(),
                        changed_by=principal.actor,
                    )
                    await self._store.save(connection, policy)
                    await self._record(connection, principal, "policies:update", policy)
            except IntegrityError as error:
                raise _taken(terms.name) from error
            self._keep(policy)
        return self._reply(policy)

    async def delete(self, principal: Principal, request: PoliciesDelete) -> Reply:
        organisation_id = authorize(principal, Permission.POLICIES_WRITE)
        async with self._changing:
            async with self._database.write(organisation_id) as connection:
                policy = await self._locked(connection, organisation_id, request.policy_id)
                await self._store.delete(connection, organisation_id, policy.id)
                await self._record(connection, principal, "policies:delete", policy)
            self._policies.get(organisation_id, {}).pop(policy.id, None)
            self.changed.set()
        return Reply()

    async def _locked(self, connection: AsyncConnection, organisation_id: str, policy_id: str) -> Policy:
        found = await self._store.find(connection, organisation_id, policy_id, to_change=True)
        return _found(found, policy_id)

    async def _record(self, connection: AsyncConnection, principal: Principal, action: str, policy: Policy) -> None:
        detail: dict[str, Any] = {"version": policy.version, "terms": msgspec.to_builtins(policy.terms)}
        await record(
            connection,
            organisation_id=policy.organisation_id,
            at=self._clock.now(),
            actor=principal.actor,
            action=action,
            target=f"policy:{policy.id}",
            detail=detail,
        )

    def _keep(self, policy: Policy) -> None:
        self._policies.setdefault(policy.organisation_id, {})[policy.id] = policy
        self.changed.set()
        log.info("policy changed", policy_id=policy.id, version=policy.version, actor=policy.changed_by)

    def _reply(self, policy: Policy) -> PolicyReply:
        return PolicyReply(policy=_view(policy, self._tag_sets(policy.organisation_id)))

    def _tag_sets(self, organisation_id: str) -> TagSets:
        return Counter(tuple(machine.tags) for machine in self._machines.agents(organisation_id).values())


def _view(policy: Policy, machines: TagSets) -> PolicyView:
    return PolicyView(
        id=policy.id,
        version=policy.version,
        terms=policy.terms,
        machines=sum(count for tags, count in machines.items() if policy.holds_for(tags)),
        created_at=policy.created_at,
        created_by=policy.created_by,
        changed_at=policy.changed_at,
        changed_by=policy.changed_by,
    )


def _checked(terms: PolicyTerms) -> PolicyTerms:
    """Return `terms` with its names as they are stored. Raises InvalidRequest."""
    name = terms.name.strip()
    if not name:
        raise InvalidRequest("the name is empty", path="$.terms.name")
    check_all(terms.checks)
    checks = [
        msgspec.structs.replace(check, name=check.name.strip(), subject=check.subject.strip()) for check in terms.checks
    ]
    return msgspec.structs.replace(terms, name=name, checks=checks)


def _found(policy: Policy | None, policy_id: str) -> Policy:
    if policy is None:
        raise NotFound(f"there is no policy {policy_id!r} in your organisation", path="$.policyId")
    return policy


def _taken(name: str) -> Conflict:
    return Conflict(f"there is already a policy {name}", path="$.terms.name")
