"""Samples, observations and agents for the alerts' tests."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from sqlalchemy import insert

from hub_server.access.model import Principal
from hub_server.alerts.model import Observation, Standing
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AlertSeverity, Role
from protocol.frames import MetricValue, Sample
from protocol.operations import Thresholds


def principal_of(organisation_id: str, role: Role = Role.OPERATOR) -> Principal:
    return Principal(user_id="u1", username="vera", organisation_id=organisation_id, role=role)


def standing(key: str, severity: AlertSeverity, *, is_open: bool = True) -> dict[str, Standing]:
    return {key: Standing("alert-1", key, severity, "as before", is_open)}


def default_thresholds(agent_id: str) -> Thresholds:
    return Thresholds()


def observation(
    organisation_id: str, agent_id: str, data: dict[str, MetricValue], *, at_monotonic: float = 0.0
) -> Observation:
    return Observation(
        organisation_id=organisation_id,
        agent_id=agent_id,
        sample=Sample(seq=1, ts=1, metric_type="system", metric_data=data),
        received_monotonic=at_monotonic,
    )


async def add_agent(database: Database, organisation_id: str) -> str:
    agent_id = str(uuid.uuid4())
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(
            insert(AgentRow).values(
                id=agent_id,
                organisation_id=organisation_id,
                hostname="db-1",
                name="db-1",
                os_type="linux",
                agent_version="0.1.0",
                enrolled_at=datetime(2026, 11, 1, tzinfo=UTC),
            )
        )
    return agent_id
