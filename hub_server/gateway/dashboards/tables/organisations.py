"""Operations on organisations, for administrators of the hub."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.access.organisations import OrganisationService
from hub_server.gateway.dashboards.operations import Entry, Table


def organisation_operations(organisations: OrganisationService) -> Table:
    return {
        "organisations:list": Entry(
            Permission.ORGANISATIONS_READ, lambda caller, request: organisations.list(caller.principal, request)
        ),
        "organisations:create": Entry(
            Permission.ORGANISATIONS_WRITE, lambda caller, request: organisations.create(caller.principal, request)
        ),
        "organisations:update": Entry(
            Permission.ORGANISATIONS_WRITE, lambda caller, request: organisations.update(caller.principal, request)
        ),
    }
