"""Who may do what. Seed 004, "Authorization"; roles as the field knows them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

from protocol.enumerations import Role


class Permission(StrEnum):
    FLEET_READ = "fleet:read"
    FLEET_WRITE = "fleet:write"
    FLEET_DELETE = "fleet:delete"
    FLEET_REVOKE = "fleet:revoke"
    ALERTS_RESOLVE = "alerts:resolve"
    COMMANDS_READ = "commands:read"
    COMMANDS_RUN = "commands:run"
    POLICIES_READ = "policies:read"
    POLICIES_WRITE = "policies:write"
    TOKENS_READ = "tokens:read"
    TOKENS_WRITE = "tokens:write"
    APPROVALS_DECIDE = "approvals:decide"
    CERTIFICATES_READ = "certificates:read"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    API_KEYS_READ = "api-keys:read"
    API_KEYS_WRITE = "api-keys:write"
    AUDIT_READ = "audit:read"
    ORGANISATIONS_READ = "organisations:read"
    ORGANISATIONS_WRITE = "organisations:write"
    HUB_READ = "hub:read"
    """The hub's own figures: of its administrators, and of those of its first organisation."""
    SELF = "self"
    """One's own account: everybody has it, also before a second factor is set up."""


_READ: Final = frozenset({Permission.SELF, Permission.FLEET_READ, Permission.POLICIES_READ})
_OPERATE: Final = _READ | {Permission.ALERTS_RESOLVE, Permission.COMMANDS_READ}
_RUN: Final = _OPERATE | {Permission.COMMANDS_RUN, Permission.FLEET_WRITE}
_OF_THE_HUB: Final = frozenset({Permission.ORGANISATIONS_READ, Permission.ORGANISATIONS_WRITE})

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: _READ,
    Role.OPERATOR: _OPERATE,
    Role.TECHNICIAN: _RUN,
    Role.APPROVER: _OPERATE | {Permission.TOKENS_READ, Permission.APPROVALS_DECIDE},
    Role.ORG_ADMIN: frozenset(Permission) - _OF_THE_HUB,
    Role.HUB_ADMIN: frozenset(Permission) - {Permission.COMMANDS_RUN, Permission.POLICIES_WRITE},
    Role.AUDITOR: _READ
    | {
        Permission.COMMANDS_READ,
        Permission.TOKENS_READ,
        Permission.CERTIFICATES_READ,
        Permission.USERS_READ,
        Permission.API_KEYS_READ,
        Permission.AUDIT_READ,
    },
}


class Principal(Struct, frozen=True, kw_only=True):
    """Who asks, in one organisation: a signed-in person, or a script with an API key of theirs.

    `is_limited`: the role needs a second factor here and the sign-in had none, so only Permission.SELF is left.
    """

    user_id: str
    username: str
    organisation_id: str
    role: Role
    is_limited: bool = False
    api_key_id: str | None = None

    @property
    def actor(self) -> str:
        """Return how the audit names this person."""
        return f"user:{self.username}" if self.api_key_id is None else f"user:{self.username}+key:{self.api_key_id}"


class OnMachine(Struct, frozen=True, kw_only=True):
    """Whoever administers the hub on its own machine: everything is open to them, in the organisation they name."""

    organisation_id: str
    actor: str = "hub-cli"


def permissions_of(principal: Principal) -> frozenset[Permission]:
    return frozenset({Permission.SELF}) if principal.is_limited else PERMISSIONS[principal.role]


def permits(principal: Principal, permission: Permission) -> bool:
    return permission in permissions_of(principal)


def runs_commands(role: Role) -> bool:
    return Permission.COMMANDS_RUN in PERMISSIONS[role]


def covers(role: Role, other: Role) -> bool:
    """Tell whether `role` may everything that `other` may."""
    return PERMISSIONS[role] >= PERMISSIONS[other]


def normalised(username: str) -> str:
    """Return a user name as it is stored and compared: without surrounding space, in lower case."""
    return username.strip().casefold()
