"""The audit tables as they are, also where somebody with the database wrote what the hub never would.

Values come back as text that may be missing (`None`: not text, or no Unicode) and as whole numbers, so that a row that
makes no sense is found by its place instead of failing the read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Integer, LargeBinary, Select, String, case, cast, func, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.audit.tables import AuditCheckpointRow, AuditHeadRow, AuditRow

PAGE_ROWS: Final = 2000


class StoredEntry(Struct, frozen=True):
    number: int | None
    organisation_id: str | None
    at: datetime | None
    actor: str | None
    action: str | None
    target: str | None
    detail: str | None
    hash: str | None


class StoredCheckpoint(Struct, frozen=True):
    """`entry_hash`: of the entry at its place, None where there is none."""

    number: int | None
    hash: str | None
    at: datetime | None
    previous: int | None
    key_id: str | None
    signature: str | None
    entry_hash: str | None


class StoredHead(Struct, frozen=True):
    number: int | None
    hash: str | None
    checkpoint: int | None


class Evidence:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_sqlite = connection.dialect.name == "sqlite"

    async def hub_ids(self) -> Sequence[str | None]:
        """Return whose chains there are, by any of the three tables."""
        found: set[str | None] = set()
        for table in (AuditRow, AuditHeadRow, AuditCheckpointRow):
            rows = await self._connection.execute(select(self._text(col(table.hub_id))).distinct())
            found.update(_decoded(value) for value in rows.scalars())
        return sorted(found, key=lambda hub_id: (hub_id is not None, hub_id or ""))

    async def entries_after(self, hub_id: str, place: int | None) -> Sequence[StoredEntry]:
        """Return the next entries of the chain in the order of their numbers; None begins."""
        row = AuditRow
        texts = (row.organisation_id, row.at, row.actor, row.action, row.target, row.detail, row.hash)
        query = self._page(row, hub_id, place, [self._number(row.number), *map(self._text, texts)])
        return [
            StoredEntry(_whole(number), _decoded(organisation_id), _time(at), *map(_decoded, others))
            for number, organisation_id, at, *others in await self._connection.execute(query)
        ]

    async def checkpoints_after(self, hub_id: str, place: int | None) -> Sequence[StoredCheckpoint]:
        row, entry = AuditCheckpointRow, AuditRow
        columns = [
            self._number(row.number),
            self._text(row.hash),
            self._text(row.at),
            self._number(row.previous),
            *map(self._text, (row.key_id, row.signature, entry.hash)),
        ]
        query = self._page(row, hub_id, place, columns)
        same_place = (col(entry.hub_id) == col(row.hub_id)) & (col(entry.number) == col(row.number))
        return [
            StoredCheckpoint(
                _whole(number), _decoded(hash_), _time(at), _whole(previous), *map(_decoded, (key, signature, of_entry))
            )
            for number, hash_, at, previous, key, signature, of_entry in await self._connection.execute(
                query.join_from(row, entry, same_place, isouter=True)
            )
        ]

    async def head(self, hub_id: str) -> StoredHead | None:
        row = AuditHeadRow
        columns = [self._number(row.number), self._text(row.hash), self._number(row.checkpoint)]
        found = (await self._connection.execute(select(*columns).where(col(row.hub_id) == hub_id))).one_or_none()
        return None if found is None else StoredHead(_whole(found[0]), _decoded(found[1]), _whole(found[2]))

    def _page(
        self, row: type[AuditRow | AuditCheckpointRow], hub_id: str, place: int | None, columns: Sequence[Any]
    ) -> Select[*tuple[Any, ...]]:
        query = select(*columns).where(col(row.hub_id) == hub_id).order_by(col(row.number)).limit(PAGE_ROWS)
        return query if place is None else query.where(col(row.number) > place)

    def _text(self, column: Any) -> Any:
        """SQLite keeps what it is given, of any type and encoding: ask for the bytes of what is text."""
        if not self._is_sqlite:
            return col(column)
        return case((func.typeof(column) == "text", cast(type_coerce(column, String), LargeBinary)))

    def _number(self, column: Any) -> Any:
        if not self._is_sqlite:
            return col(column)
        return case((func.typeof(column) == "integer", type_coerce(column, Integer)))


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _decoded(value: object) -> str | None:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    """Return the moment, None unless it is written exactly as the hub writes it."""
    if isinstance(value, datetime):
        return value
    text = _decoded(value)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is not None or moment.isoformat(" ", "microseconds") != text:
        return None
    return moment.replace(tzinfo=UTC)
