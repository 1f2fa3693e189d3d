"""Operations on the hub's own figures."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.gateway.dashboards.operations import Entry, Table
from hub_server.vitals.service import VitalsService


def vitals_operations(vitals: VitalsService) -> Table:
    return {
        "hub:health": Entry(Permission.HUB_READ, lambda caller, request: vitals.health(caller.principal, request)),
        "hub:metrics": Entry(Permission.HUB_READ, lambda caller, request: vitals.history(caller.principal, request)),
    }
