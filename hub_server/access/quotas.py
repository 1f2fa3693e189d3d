"""How much an organisation may have, checked in the transaction that adds to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Mapped
from sqlmodel import col

from hub_server.access.tables import MembershipRow, OrganisationRow
from hub_server.errors import QuotaReached

Refusal = Callable[[int], str]
_MOST_COMMANDS: Final = select(col(OrganisationRow.max_open_commands)).where(
    col(OrganisationRow.id) == bindparam("of_organisation")
)
_MOST_COMMANDS_LOCKED: Final = _MOST_COMMANDS.with_for_update(key_share=True)


class Count(Protocol):
    """What another subject keeps for organisations."""

    async def __call__(self, connection: AsyncConnection, organisation_ids: Collection[str]) -> Mapping[str, int]:
        """Return how many there are of each organisation; one that has none may be missing."""


class CountWithin(Protocol):
    """The same in a transaction that runs as a whole (`Database.transact`)."""

    def __call__(self, connection: Connection, organisation_ids: Collection[str]) -> Mapping[str, int]: ...


class Quotas:
    """Each check raises QuotaReached when the organisation may not have one more.

    The organisation stays locked until the transaction of `connection` ends, so that two who add at once cannot pass
    the bound together; one without a bound is not locked. Ask before the audit row is written.
    """

    def __init__(self, *, agents: Count, open_commands: CountWithin) -> None:
        self._agents = agents
        self._open_commands = open_commands

    async def check_agents(self, connection: AsyncConnection, organisation_id: str) -> None:
        await _check(connection, organisation_id, col(OrganisationRow.max_agents), self._agents, _too_many_agents)

    async def check_users(self, connection: AsyncConnection, organisation_id: str) -> None:
        await _check(connection, organisation_id, col(OrganisationRow.max_users), count_users, _too_many_users)

    def check_open_commands(self, connection: Connection, organisation_id: str) -> None:
        most = connection.scalar(_MOST_COMMANDS, {"of_organisation": organisation_id})
        if most is None:
            return
        most = connection.scalar(_MOST_COMMANDS_LOCKED, {"of_organisation": organisation_id})
        if most is not None and self._open_commands(connection, [organisation_id]).get(organisation_id, 0) >= most:
            raise QuotaReached(_too_many_open_commands(most))


async def count_users(connection: AsyncConnection, organisation_ids: Collection[str]) -> Mapping[str, int]:
    """Return how many people each of these organisations has."""
    rows = await connection.execute(
        select(col(MembershipRow.organisation_id), func.count())
        .where(col(MembershipRow.organisation_id).in_(organisation_ids))
        .group_by(col(MembershipRow.organisation_id))
    )
    return {row[0]: row[1] for row in rows}


async def _check(
    connection: AsyncConnection,
    organisation_id: str,
    bound: Mapped[int | None],
    count: Count,
    refusal: Refusal,
) -> None:
    query = select(bound).where(col(OrganisationRow.id) == organisation_id)
    if await connection.scalar(query) is None:
        return
    # FOR NO KEY UPDATE: rows that refer to the organisation may still be added by others.
    most = await connection.scalar(query.with_for_update(key_share=True))
    if most is None:
        return
    if (await count(connection, [organisation_id])).get(organisation_id, 0) >= most:
        raise QuotaReached(refusal(most))


def _too_many_agents(most: int) -> str:
    return f"your organisation may have {most} agents and has them; delete one, or ask the hub's administrator for more"


def _too_many_users(most: int) -> str:
    return f"your organisation may have {most} users and has them; remove one, or ask the hub's administrator for more"


def _too_many_open_commands(most: int) -> str:
    return (
        f"your organisation may have {most} commands under way and has them; wait until some have ended, "
        "or ask the hub's administrator for more"
    )
