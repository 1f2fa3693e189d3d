"""Who may do what. Seed 004, "Authorization"; roles as the field knows them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    TECHNICIAN = "technician"
    APPROVER = "approver"
    ORG_ADMIN = "org-admin"
    HUB_ADMIN = "hub-admin"
    AUDITOR = "auditor"


class Permission(StrEnum):
    FLEET_READ = "fleet:read"
    FLEET_WRITE = "fleet:write"
    FLEET_DELETE = "fleet:delete"
    ALERTS_RESOLVE = "alerts:resolve"
    COMMANDS_READ = "commands:read"
    COMMANDS_RUN = "commands:run"
    TOKENS_READ = "tokens:read"
    TOKENS_WRITE = "tokens:write"
    SELF = "self"


_READ: Final = frozenset({Permission.SELF, Permission.FLEET_READ})
_OPERATE: Final = _READ | {Permission.ALERTS_RESOLVE, Permission.COMMANDS_READ}
_RUN: Final = _OPERATE | {Permission.COMMANDS_RUN, Permission.FLEET_WRITE}

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: _READ,
    Role.OPERATOR: _OPERATE,
    Role.TECHNICIAN: _RUN,
    Role.APPROVER: _OPERATE,
    Role.ORG_ADMIN: frozenset(Permission),
    Role.HUB_ADMIN: frozenset(Permission) - {Permission.COMMANDS_RUN},
    Role.AUDITOR: _READ | {Permission.COMMANDS_READ, Permission.TOKENS_READ},
}


class Principal(Struct, frozen=True, kw_only=True):
    """A signed-in person in one organisation."""

    user_id: str
    username: str
    organisation_id: str
    role: Role

    @property
    def actor(self) -> str:
        """Return how the audit names this person."""
        return f"user:{self.username}"


def permits(principal: Principal, permission: Permission) -> bool:
    return permission in PERMISSIONS[principal.role]
