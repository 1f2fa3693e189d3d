"""What can be asked of organisations: by administrators of the hub, over the socket or on its machine."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import UNSET
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.access.quotas import Count, count_users
from hub_server.access.tables import OrganisationRow
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import Conflict, InvalidRequest, NotFound
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.people import (
    OrganisationReply,
    OrganisationsCreate,
    OrganisationsList,
    OrganisationsListReply,
    OrganisationsUpdate,
    OrganisationView,
    Quotas,
)

log = structlog.get_logger(component="access")


class OrganisationService:
    """The hub's organisations are the work of the hub itself, so all of them are in scope here."""

    def __init__(self, *, database: Database, clock: Clock, agents: Count) -> None:
        self._database = database
        self._clock = clock
        self._agents = agents

    async def list(self, principal: Principal, request: OrganisationsList) -> OrganisationsListReply:
        authorize(principal, Permission.ORGANISATIONS_READ)
        return await self.page(request)

    async def create(self, principal: Principal, request: OrganisationsCreate) -> OrganisationReply:
        organisation_id = authorize(principal, Permission.ORGANISATIONS_WRITE)
        return OrganisationReply(organisation=await self.add(principal.actor, organisation_id, request))

    async def update(self, principal: Principal, request: OrganisationsUpdate) -> OrganisationReply:
        """Change the name or the quotas. What is there already stays, also above a new bound."""
        organisation_id = authorize(principal, Permission.ORGANISATIONS_WRITE)
        return OrganisationReply(organisation=await self.change(principal.actor, organisation_id, request))

    # The same, asked on the hub's machine.

    async def page(self, request: OrganisationsList) -> OrganisationsListReply:
        """Oldest first."""
        oldest_first = (col(OrganisationRow.created_at), col(OrganisationRow.id))
        async with self._database.read(EVERY_ORGANISATION) as connection:
            total = await connection.scalar(select(func.count()).select_from(OrganisationRow))
            query = select(OrganisationRow).order_by(*oldest_first).limit(request.limit).offset(request.offset)
            views = await self._views(connection, (await connection.execute(query)).all())
        return OrganisationsListReply(
            organisations=list(views), total=total or 0, limit=request.limit, offset=request.offset
        )

    async def named(self, name: str) -> OrganisationView:
        """Return the organisation with this name or id. Raises NotFound."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            wanted = (col(OrganisationRow.name) == name) | (col(OrganisationRow.id) == name)
            views = await self._views(
                connection, (await connection.execute(select(OrganisationRow).where(wanted))).all()
            )
        if not views:
            raise NotFound(f"there is no organisation {name!r}", path="$.name")
        return views[0]

    async def add(self, actor: str, actors: str | None, request: OrganisationsCreate) -> OrganisationView:
        """`actors`: the organisation of whoever does it, None on the hub's machine.

        Raises Conflict when the name is taken, InvalidRequest when it is empty.
        """
        organisation_id = str(uuid.uuid4())
        values = {"name": _name(request.name)} | _bounds(request.quotas)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            try:
                await connection.execute(
                    insert(OrganisationRow).values(id=organisation_id, created_at=self._clock.now(), **values)
                )
            except IntegrityError as error:
                raise _taken(request.name) from error
            view = await self._view(connection, organisation_id)
            among = (actors, organisation_id)
            await self._record(connection, actor, among, "organisations:create", organisation_id, values)
        log.info("organisation created", organisation_id=organisation_id, actor=actor)
        return view

    async def change(self, actor: str, actors: str | None, request: OrganisationsUpdate) -> OrganisationView:
        """Raises NotFound, and what `add` raises; `actors` as there."""
        organisation_id = request.organisation_id
        values: dict[str, Any] = {} if request.name is UNSET else {"name": _name(request.name)}
        values |= {} if request.quotas is UNSET else _bounds(request.quotas)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            if values:
                await self._write(connection, organisation_id, values)
            view = await self._view(connection, organisation_id)
            if values:
                among = (actors, organisation_id)
                await self._record(connection, actor, among, "organisations:update", organisation_id, values)
        return view

    async def _write(self, connection: AsyncConnection, organisation_id: str, values: dict[str, Any]) -> None:
        statement = update(OrganisationRow).where(col(OrganisationRow.id) == organisation_id).values(**values)
        try:
            await connection.execute(statement)
        except IntegrityError as error:
            raise _taken(values["name"]) from error

    async def _record(
        self,
        connection: AsyncConnection,
        actor: str,
        among: Sequence[str | None],
        action: str,
        organisation_id: str,
        values: dict[str, Any],
    ) -> None:
        """Write the deed into the audit of each of `among`: of whoever did it, and of whom it is done to."""
        for audience in dict.fromkeys(filter(None, among)):
            await record(
                connection,
                organisation_id=audience,
                at=self._clock.now(),
                actor=actor,
                action=action,
                target=f"organisation:{organisation_id}",
                detail=values,
            )

    async def _view(self, connection: AsyncConnection, organisation_id: str) -> OrganisationView:
        query = select(OrganisationRow).where(col(OrganisationRow.id) == organisation_id)
        views = await self._views(connection, (await connection.execute(query)).all())
        if not views:
            raise NotFound(f"there is no organisation {organisation_id!r}", path="$.organisationId")
        return views[0]

    async def _views(self, connection: AsyncConnection, rows: Sequence[Row[Any]]) -> Sequence[OrganisationView]:
        ids = [row.id for row in rows]
        agents, users = await self._agents(connection, ids), await count_users(connection, ids)
        return [
            OrganisationView(
                id=row.id,
                name=row.name,
                quotas=Quotas(agents=row.max_agents, users=row.max_users, open_commands=row.max_open_commands),
                agents=agents.get(row.id, 0),
                users=users.get(row.id, 0),
                created_at=row.created_at,
            )
            for row in rows
        ]


def _bounds(quotas: Quotas) -> dict[str, int | None]:
    return {"max_agents": quotas.agents, "max_users": quotas.users, "max_open_commands": quotas.open_commands}


def _name(name: str) -> str:
    stripped = name.strip()
    if not stripped:
        raise InvalidRequest("the name is empty", path="$.name")
    return stripped


def _taken(name: str) -> Conflict:
    return Conflict(f"there is already an organisation {name}", path="$.name")
