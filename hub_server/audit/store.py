"""Audit entries as people search them, and the hub's checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Row, func, insert, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.audit.model import AuditEntry, SignedPlace
from hub_server.audit.tables import AuditCheckpointRow, AuditHeadRow, AuditRow
from protocol.oversight import AuditSearch

PAGE_ROWS: Final = 1000
_LAST_MS: Final = 253_402_300_799_000
"""The last second of the year 9999, where datetimes end."""
_NEWEST_FIRST: Final = (col(AuditRow.at).desc(), col(AuditRow.hub_id).desc(), col(AuditRow.number).desc())
_PLACE: Final = tuple_(col(AuditRow.at), col(AuditRow.hub_id), col(AuditRow.number))


class AuditStore:
    """`organisation_ids`: whose entries; None means everybody's and the hub's own."""

    async def page(
        self, connection: AsyncConnection, organisation_ids: Collection[str] | None, request: AuditSearch
    ) -> tuple[list[tuple[AuditEntry, str]], int]:
        """Return the entries of one page, each with its hash, and how many match."""
        matching = _matching(organisation_ids, request)
        total = await connection.scalar(select(func.count()).select_from(AuditRow).where(*matching))
        query = select(AuditRow).where(*matching).order_by(*_NEWEST_FIRST)
        rows = await connection.execute(query.limit(request.limit).offset(request.offset))
        return [(_entry(row), row.hash) for row in rows], total or 0

    async def all(
        self, connection: AsyncConnection, organisation_ids: Collection[str] | None, request: AuditSearch
    ) -> AsyncIterator[tuple[AuditEntry, str]]:
        """Yield every entry that matches, newest first, without holding them all; limit and offset say nothing."""
        matching = _matching(organisation_ids, request)
        query = select(AuditRow).where(*matching).order_by(*_NEWEST_FIRST).limit(PAGE_ROWS)
        rows = (await connection.execute(query)).all()
        while rows:
            for row in rows:
                yield _entry(row), row.hash
            last = rows[-1]
            is_older = _PLACE.__lt__((last.at, last.hub_id, last.number))
            rows = (await connection.execute(query.where(is_older))).all()

    async def locked_head(self, connection: AsyncConnection, hub_id: str) -> tuple[int, str, int] | None:
        """Return number and hash of the hub's newest entry, and its newest checkpoint; lock the end of the chain."""
        head = AuditHeadRow
        query = select(col(head.number), col(head.hash), col(head.checkpoint)).where(col(head.hub_id) == hub_id)
        row = (await connection.execute(query.with_for_update())).one_or_none()
        return None if row is None else (row[0], row[1], row[2])

    async def newest_checkpoint(self, connection: AsyncConnection, hub_id: str) -> SignedPlace | None:
        row = AuditCheckpointRow
        newest = select(row).where(col(row.hub_id) == hub_id).order_by(col(row.number).desc()).limit(1)
        found = (await connection.execute(newest)).one_or_none()
        return None if found is None else SignedPlace(**found._asdict())

    async def add_checkpoint(self, connection: AsyncConnection, place: SignedPlace) -> None:
        await connection.execute(insert(AuditCheckpointRow).values(**msgspec.structs.asdict(place)))
        head = update(AuditHeadRow).where(col(AuditHeadRow.hub_id) == place.hub_id)
        await connection.execute(head.values(checkpoint=place.number))


def _matching(organisation_ids: Collection[str] | None, request: AuditSearch) -> list[ColumnElement[bool]]:
    row = AuditRow
    found: list[ColumnElement[bool]] = []
    if organisation_ids is not None:
        found.append(col(row.organisation_id).in_(organisation_ids))
    if request.actor is not None:
        found.append(col(row.actor) == request.actor)
    if request.target is not None:
        found.append(col(row.target) == request.target)
    if request.action is not None and request.action.endswith("*"):
        found.append(col(row.action).startswith(request.action.removesuffix("*"), autoescape=True))
    elif request.action is not None:
        found.append(col(row.action) == request.action)
    if request.from_ms is not None:
        found.append(col(row.at) >= _moment(request.from_ms))
    if request.to_ms is not None:
        found.append(col(row.at) < _moment(request.to_ms))
    if request.text:
        searched = (col(row.actor), col(row.action), col(row.target), col(row.detail))
        found.append(or_(*(column.icontains(request.text, autoescape=True) for column in searched)))
    return found


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(min(unix_ms, _LAST_MS) / 1000, UTC)


def _entry(row: Row[Any]) -> AuditEntry:
    fields = row._asdict()
    del fields["hash"]
    return AuditEntry(**fields)
