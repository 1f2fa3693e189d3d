"""Policies and the results of their checks in the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, case, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.policies.model import Policy, Result, ResultKey, Verdict
from hub_server.policies.tables import ComplianceRow, PolicyRow
from hub_server.storage.upsert import upsert
from protocol.enumerations import AlertSeverity
from protocol.policies import CheckState, ComplianceList, ComplianceTotals, PolicyTerms

_FAILED_FIRST = case(
    (col(ComplianceRow.state) == CheckState.FAILED.value, 0),
    (col(ComplianceRow.state) == CheckState.UNKNOWN.value, 1),
    else_=2,
)


class PolicyStore:
    async def load_all(self, connection: AsyncConnection) -> list[Policy]:
        """Return the policies of every organisation: the hub's index at start."""
        return [_policy(row) for row in await connection.execute(select(PolicyRow))]

    async def find(
        self, connection: AsyncConnection, organisation_id: str, policy_id: str, *, to_change: bool = False
    ) -> Policy | None:
        """`to_change`: nobody else changes it until the transaction ends."""
        query = select(PolicyRow).where(*_of(organisation_id, policy_id))
        row = (await connection.execute(query.with_for_update() if to_change else query)).first()
        return None if row is None else _policy(row)

    async def count(self, connection: AsyncConnection, organisation_id: str) -> int:
        query = select(func.count()).select_from(PolicyRow).where(col(PolicyRow.organisation_id) == organisation_id)
        return await connection.scalar(query) or 0

    async def add(self, connection: AsyncConnection, policy: Policy) -> None:
        """Raises IntegrityError when the name is taken."""
        await connection.execute(insert(PolicyRow).values(**_values(policy)))

    async def save(self, connection: AsyncConnection, policy: Policy) -> None:
        """Raises IntegrityError when the name is taken."""
        values = {name: value for name, value in _values(policy).items() if name not in ("id", "organisation_id")}
        await connection.execute(update(PolicyRow).where(*_of(policy.organisation_id, policy.id)).values(**values))

    async def delete(self, connection: AsyncConnection, organisation_id: str, policy_id: str) -> None:
        await connection.execute(delete(PolicyRow).where(*_of(organisation_id, policy_id)))


class ComplianceStore:
    async def load_agents(self, connection: AsyncConnection) -> set[str]:
        """Return the agents of every organisation that have results."""
        return set(await connection.scalars(select(col(ComplianceRow.agent_id)).distinct()))

    async def of_agents(
        self, connection: AsyncConnection, organisation_id: str, agent_ids: Collection[str]
    ) -> Mapping[ResultKey, Result]:
        rows = await connection.execute(
            select(ComplianceRow).where(
                col(ComplianceRow.organisation_id) == organisation_id, col(ComplianceRow.agent_id).in_(agent_ids)
            )
        )
        return {result.key: result for result in map(_result, rows)}

    async def save(self, connection: AsyncConnection, results: Iterable[Result], *, but_of_others: str | None) -> None:
        """Write `results`; with `but_of_others` only those that no hub but that one has judged which knows
        the machine.

        Raises IntegrityError when an agent or a policy was deleted.
        """
        values = [
            {
                "agent_id": result.key.agent_id,
                "policy_id": result.key.policy_id,
                "check_name": result.key.check,
                "organisation_id": result.organisation_id,
                "severity": result.severity.value,
                "state": result.verdict.state.value,
                "found": result.verdict.found,
                "since": result.since,
                "judged_by": result.judged_by,
            }
            for result in results
        ]
        judged_by = col(ComplianceRow.judged_by)
        where = None if but_of_others is None else or_(judged_by == "", judged_by == but_of_others)
        await upsert(connection, ComplianceRow, ("agent_id", "policy_id", "check_name"), values, where=where)

    async def delete(self, connection: AsyncConnection, organisation_id: str, keys: Iterable[ResultKey]) -> None:
        row = ComplianceRow
        place = tuple_(col(row.agent_id), col(row.policy_id), col(row.check_name))
        listed = [(key.agent_id, key.policy_id, key.check) for key in keys]
        if listed:
            await connection.execute(delete(row).where(col(row.organisation_id) == organisation_id, place.in_(listed)))

    async def page(
        self, connection: AsyncConnection, organisation_id: str, request: ComplianceList
    ) -> Sequence[Result]:
        """Return what is asked for: failed ones first, then unknown ones; of each those that changed last."""
        conditions = _conditions(organisation_id, request)
        if request.state is not None:
            conditions.append(col(ComplianceRow.state) == request.state.value)
        row = ComplianceRow
        rows = await connection.execute(
            select(row)
            .where(*conditions)
            .order_by(_FAILED_FIRST, col(row.since).desc(), col(row.agent_id), col(row.policy_id), col(row.check_name))
            .limit(request.limit)
            .offset(request.offset)
        )
        return [_result(found) for found in rows]

    async def totals(
        self, connection: AsyncConnection, organisation_id: str, request: ComplianceList
    ) -> ComplianceTotals:
        """Return how many there are of each state, whatever state is asked for."""
        state = col(ComplianceRow.state)
        rows = await connection.execute(
            select(state, func.count()).where(*_conditions(organisation_id, request)).group_by(state)
        )
        return ComplianceTotals(**{row[0]: row[1] for row in rows})

    async def by_policy(
        self, connection: AsyncConnection, organisation_id: str
    ) -> Mapping[str, tuple[ComplianceTotals, ComplianceTotals]]:
        """Return (machines by their worst result, results) of each policy that has any."""
        row = ComplianceRow
        per_machine = (
            select(col(row.policy_id), col(row.agent_id), *_counts(), func.min(_FAILED_FIRST).label("worst"))
            .where(col(row.organisation_id) == organisation_id)
            .group_by(col(row.policy_id), col(row.agent_id))
            .subquery()
        )
        columns = per_machine.c
        rows = await connection.execute(
            select(
                columns.policy_id,
                *(func.sum(case((columns.worst == worst, 1), else_=0)) for worst in range(3)),
                func.sum(columns.failed),
                func.sum(columns.unknown),
                func.sum(columns.passed),
            ).group_by(columns.policy_id)
        )
        return {row[0]: (_totals(row[1:4]), _totals(row[4:7])) for row in rows}

    async def machines(self, connection: AsyncConnection, organisation_id: str) -> ComplianceTotals:
        """Return how many machines there are by their worst result."""
        row = ComplianceRow
        worst = (
            select(func.min(_FAILED_FIRST).label("worst"))
            .where(col(row.organisation_id) == organisation_id)
            .group_by(col(row.agent_id))
            .subquery()
        )
        found = await connection.execute(select(worst.c.worst, func.count()).group_by(worst.c.worst))
        counts = {row[0]: row[1] for row in found}
        return _totals([counts.get(place, 0) for place in range(3)])


def _of(organisation_id: str, policy_id: str) -> tuple[ColumnElement[bool], ...]:
    return (col(PolicyRow.id) == policy_id, col(PolicyRow.organisation_id) == organisation_id)


def _values(policy: Policy) -> dict[str, Any]:
    terms: dict[str, Any] = msgspec.to_builtins(policy.terms)
    return msgspec.structs.asdict(policy) | {"name": policy.terms.name, "terms": terms}


def _policy(row: Row[Any]) -> Policy:
    fields = row._asdict()
    fields.pop("name")
    fields["terms"] = msgspec.convert(fields["terms"], PolicyTerms)
    return Policy(**fields)


def _conditions(organisation_id: str, request: ComplianceList) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [col(ComplianceRow.organisation_id) == organisation_id]
    if request.policy_id is not None:
        conditions.append(col(ComplianceRow.policy_id) == request.policy_id)
    if request.agent_id is not None:
        conditions.append(col(ComplianceRow.agent_id) == request.agent_id)
    return conditions


def _counts() -> list[ColumnElement[int]]:
    state = col(ComplianceRow.state)
    return [func.sum(case((state == one.value, 1), else_=0)).label(one.value) for one in CheckState]


def _totals(counts: Sequence[int]) -> ComplianceTotals:
    """`counts`: of failed, unknown and passed, as _FAILED_FIRST puts them."""
    failed, unknown, passed = (int(count) for count in counts)
    return ComplianceTotals(failed=failed, unknown=unknown, passed=passed)


def _result(row: Row[Any]) -> Result:
    return Result(
        organisation_id=row.organisation_id,
        key=ResultKey(row.agent_id, row.policy_id, row.check_name),
        severity=AlertSeverity(row.severity),
        verdict=Verdict(CheckState(row.state), row.found),
        since=row.since,
        judged_by=row.judged_by,
    )
