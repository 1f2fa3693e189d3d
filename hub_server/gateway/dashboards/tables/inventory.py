"""Operations on what machines are made of."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.gateway.dashboards.operations import Entry, Table
from hub_server.inventory.service import InventoryService


def inventory_operations(inventory: InventoryService) -> Table:
    return {
        "inventory:get": Entry(Permission.FLEET_READ, lambda caller, request: inventory.get(caller.principal, request)),
    }
