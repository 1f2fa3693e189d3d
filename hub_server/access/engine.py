"""Who may give which role, and whose account they may touch. Nobody can grant more than they have."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from hub_server.access.model import OnMachine, Permission, Principal, covers, permissions_of
from hub_server.errors import Conflict, Forbidden
from protocol.enumerations import Role


class Deed(StrEnum):
    """What is done to somebody else's account or membership."""

    SET_ROLE = "set-role"
    SET_PASSWORD = "set-password"  # noqa: S105
    REMOVE_TOTP = "remove-totp"
    LOCK = "lock"
    UNLOCK = "unlock"
    REMOVE = "remove"


_OF_THE_PERSON = frozenset({Deed.SET_PASSWORD, Deed.REMOVE_TOTP, Deed.LOCK, Deed.UNLOCK})
"""These reach beyond the organisation: the account is one for all of them."""
_WITH_PROOF = frozenset({Deed.SET_PASSWORD, Deed.REMOVE_TOTP})
"""One's own only with the password at hand: `account:set-password`, `account:remove-totp`."""


class Target(Struct, frozen=True, kw_only=True):
    """Whom a deed is done to. `is_last_admin`: no other unlocked org-admin is in the organisation."""

    user_id: str
    role: Role
    is_elsewhere: bool
    is_last_admin: bool


def may_grant(who: Principal | OnMachine, role: Role) -> bool:
    match who:
        case OnMachine():
            return True
        case Principal():
            return Permission.USERS_WRITE in permissions_of(who) and covers(who.role, role)


def check_grant(who: Principal | OnMachine, role: Role) -> None:
    """Raises Forbidden when `who` may not give `role`."""
    if not may_grant(who, role):
        raise Forbidden(f"you cannot give the role {role}: it may do more than yours", path="$.role")


def check_deed(who: Principal | OnMachine, deed: Deed, target: Target, new_role: Role | None = None) -> None:
    """`new_role`: for SET_ROLE.

    Raises Forbidden, or Conflict when the organisation would lose its last administrator.
    """
    if isinstance(who, OnMachine):
        return
    if Permission.USERS_WRITE not in permissions_of(who):
        raise Forbidden("your role does not allow changes to people")
    if not covers(who.role, target.role):
        raise Forbidden(f"this person's role ({target.role}) may do more than yours", path="$.userId")
    if new_role is not None:
        check_grant(who, new_role)
    if deed in _WITH_PROOF and target.user_id == who.user_id:
        raise Forbidden(f"for your own account use account:{deed}, which asks for your password", path="$.userId")
    if deed in _OF_THE_PERSON and target.is_elsewhere:
        raise Forbidden(
            "this person is also in another organisation: only they themselves, or an administrator on the hub's "
            "machine (jtnt-hub users), may change this",
            path="$.userId",
        )
    ends_administration = deed in {Deed.LOCK, Deed.REMOVE} or (deed is Deed.SET_ROLE and new_role is not Role.ORG_ADMIN)
    if target.is_last_admin and ends_administration:
        raise Conflict("the organisation would be without an administrator: make another org-admin first")
