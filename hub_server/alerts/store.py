"""Alerts in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.alerts.model import RESOLVED_BY_HUB, Alert
from hub_server.alerts.tables import AlertRow
from protocol.enumerations import AlertSeverity, AlertState
from protocol.operations import AlertsList


class AlertStore:
    async def load_standing(self, connection: AsyncConnection) -> list[Alert]:
        """Return every organisation's alerts that are open or whose condition holds."""
        return await self._alerts(connection, _stands())

    async def standing_of(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> list[Alert]:
        return await self._alerts(
            connection,
            col(AlertRow.organisation_id) == organisation_id,
            col(AlertRow.agent_id) == agent_id,
            _stands(),
        )

    async def find(self, connection: AsyncConnection, organisation_id: str, alert_id: str) -> Alert | None:
        found = await self._alerts(
            connection, col(AlertRow.organisation_id) == organisation_id, col(AlertRow.id) == alert_id
        )
        return found[0] if found else None

    def page(self, connection: Connection, organisation_id: str, request: AlertsList) -> tuple[list[Alert], int]:
        """Return the alerts asked for, newest first, and how many there are in all."""
        conditions = [col(AlertRow.organisation_id) == organisation_id]
        if request.agent_id is not None:
            conditions.append(col(AlertRow.agent_id) == request.agent_id)
        if request.state is not None:
            conditions.append(col(AlertRow.state) == request.state.value)
        total = connection.scalar(select(func.count()).select_from(AlertRow).where(*conditions))
        rows = connection.execute(
            select(AlertRow)
            .where(*conditions)
            .order_by(col(AlertRow.opened_at).desc(), col(AlertRow.id))
            .limit(request.limit)
            .offset(request.offset)
        )
        return [_alert(row) for row in rows], total or 0

    async def add(self, connection: AsyncConnection, alert: Alert) -> bool:
        """Return False, and add nothing, when the agent has an open alert of this key already."""
        dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        values = msgspec.structs.asdict(alert) | {"severity": alert.severity.value, "state": alert.state.value}
        result = await connection.execute(
            dialect_insert(AlertRow).values(**values).on_conflict_do_nothing().returning(col(AlertRow.id))
        )
        return result.first() is not None

    async def change_severity(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        alert_id: str,
        *,
        severity: AlertSeverity,
        message: str,
        at: datetime,
    ) -> None:
        """Does nothing to an alert that is not open any more."""
        await connection.execute(
            update(AlertRow)
            .where(*_open(organisation_id, alert_id))
            .values(severity=severity.value, message=message, changed_at=at)
        )

    async def release(self, connection: AsyncConnection, organisation_id: str, alert_id: str) -> None:
        """Note that the alert's condition does not hold any more."""
        await connection.execute(
            update(AlertRow)
            .where(col(AlertRow.id) == alert_id, col(AlertRow.organisation_id) == organisation_id)
            .values(holding=False)
        )

    async def resolve(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        alert_id: str,
        *,
        at: datetime,
        by: str = RESOLVED_BY_HUB,
    ) -> None:
        """Does nothing to an alert that is not open any more."""
        await connection.execute(
            update(AlertRow)
            .where(*_open(organisation_id, alert_id))
            .values(state=AlertState.RESOLVED.value, changed_at=at, resolved_at=at, resolved_by=by)
        )

    async def _alerts(self, connection: AsyncConnection, *conditions: ColumnElement[bool]) -> list[Alert]:
        return [_alert(row) for row in await connection.execute(select(AlertRow).where(*conditions))]


def _stands() -> ColumnElement[bool]:
    return or_(col(AlertRow.state) == AlertState.OPEN.value, col(AlertRow.holding))


def _open(organisation_id: str, alert_id: str) -> tuple[ColumnElement[bool], ...]:
    return (
        col(AlertRow.id) == alert_id,
        col(AlertRow.organisation_id) == organisation_id,
        col(AlertRow.state) == AlertState.OPEN.value,
    )


def _alert(row: Row[Any]) -> Alert:
    fields = row._asdict()
    fields["severity"] = AlertSeverity(fields["severity"])
    fields["state"] = AlertState(fields["state"])
    return Alert(**fields)
