"""Operations on people: one's own account, users and their roles, API keys of scripts, organisations."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from protocol.elements import Word
from protocol.enumerations import Role
from protocol.events import Instant, Shape
from protocol.requests import Limit, Name, Offset, Reply, Request

Password = Annotated[str, Meta(min_length=1, max_length=1024)]
OneTimeCode = Annotated[str, Meta(min_length=1, max_length=16)]
Quota = Annotated[int, Meta(ge=0, le=10_000_000)]


class AccountGet(Request, frozen=True):
    pass


class MembershipView(Shape, frozen=True):
    organisation_id: str
    organisation: str
    role: Role


class SignInView(Shape, frozen=True):
    """A sign-in that still stands. `is_this`: the one that asks."""

    id: str
    signed_in_at: Instant
    last_used_at: Instant
    expires_at: Instant
    is_this: bool


class AccountGetReply(Reply, frozen=True):
    """Who asks. `permissions`: what they may do now; `second_factor_needed`: they may do more once they set up TOTP."""

    user_id: str
    username: str
    organisation_id: str
    organisation: str
    role: Role
    permissions: list[str]
    totp: bool
    recovery_codes_left: int
    second_factor_needed: bool
    password_changed_at: Instant | None
    memberships: list[MembershipView]
    sign_ins: list[SignInView]


class AccountSetPassword(Request, frozen=True):
    """All other sign-ins of the person end with it."""

    current: Password
    new: Password


class AccountBeginTotp(Request, frozen=True):
    password: Password


class AccountBeginTotpReply(Reply, frozen=True):
    """`secret` in base32, `uri` as authenticator apps read it (otpauth://). Nothing counts before it is confirmed."""

    secret: str
    uri: str


class AccountConfirmTotp(Request, frozen=True):
    code: OneTimeCode


class RecoveryCodesReply(Reply, frozen=True):
    """The only time they are shown; each is good once, in place of a code. Earlier ones are void."""

    recovery_codes: list[str]


class AccountRemoveTotp(Request, frozen=True):
    """`code`: of the authenticator, or a recovery code."""

    password: Password
    code: OneTimeCode


class AccountNewRecoveryCodes(Request, frozen=True):
    password: Password
    code: OneTimeCode


class AccountSignOutEverywhere(Request, frozen=True):
    """Every sign-in of the person ends, this one too."""


class UserView(Shape, frozen=True):
    """A person in the organisation of whoever asks. `is_elsewhere`: also a member of others, so only they, or an
    administrator on the hub's machine, may touch the password, the second factor or the lock.
    """

    id: str
    username: str
    role: Role
    totp: bool
    is_elsewhere: bool
    created_at: Instant
    locked_at: Instant | None
    last_sign_in_at: Instant | None


class UsersList(Request, frozen=True):
    limit: Limit = 100
    offset: Offset = 0


class UsersListReply(Reply, frozen=True):
    """`grantable`: the roles that whoever asks may give."""

    users: list[UserView]
    grantable: list[Role]
    total: int
    limit: int
    offset: int


class UsersCreate(Request, frozen=True):
    username: Name
    password: Password
    role: Role


class UsersSetRole(Request, frozen=True):
    user_id: Word
    role: Role


class UsersSetPassword(Request, frozen=True):
    user_id: Word
    password: Password


class UsersName(Request, frozen=True):
    """`users:lock`, `unlock`, `remove-totp` and `remove`. A removed person leaves the organisation."""

    user_id: Word


class UserReply(Reply, frozen=True):
    user: UserView


class RoleView(Shape, frozen=True):
    role: Role
    permissions: list[str]
    is_grantable: bool


class RolesList(Request, frozen=True):
    pass


class RolesListReply(Reply, frozen=True):
    roles: list[RoleView]


class ApiKeysCreate(Request, frozen=True):
    """A key with which a script connects, in place of an access token. Its role is at most its maker's."""

    name: Name
    role: Role
    ttl_sec: Annotated[int, Meta(ge=60, le=366 * 86400)] = 90 * 86400


class ApiKeyView(Shape, frozen=True):
    id: str
    name: str
    role: Role
    created_at: Instant
    created_by: str
    expires_at: Instant
    last_used_at: Instant | None
    revoked_at: Instant | None


class ApiKeysCreateReply(Reply, frozen=True):
    """The only time the secret, `jtntk_…`, is shown: the hub keeps its hash."""

    key: ApiKeyView
    key_text: str


class ApiKeysList(Request, frozen=True):
    limit: Limit = 100
    offset: Offset = 0


class ApiKeysListReply(Reply, frozen=True):
    keys: list[ApiKeyView]
    total: int
    limit: int
    offset: int


class ApiKeysRevoke(Request, frozen=True):
    key_id: Word


class ApiKeyReply(Reply, frozen=True):
    key: ApiKeyView


class Quotas(Request, frozen=True):
    """How much an organisation may have; null means no bound."""

    agents: Quota | None = None
    users: Quota | None = None
    open_commands: Quota | None = None


class OrganisationView(Shape, frozen=True):
    id: str
    name: str
    quotas: Quotas
    agents: int
    users: int
    created_at: Instant


class OrganisationsList(Request, frozen=True):
    limit: Limit = 100
    offset: Offset = 0


class OrganisationsListReply(Reply, frozen=True):
    organisations: list[OrganisationView]
    total: int
    limit: int
    offset: int


class OrganisationsCreate(Request, frozen=True):
    name: Name
    quotas: Quotas = Quotas()


class OrganisationsUpdate(Request, frozen=True):
    organisation_id: Word
    name: Name | UnsetType = UNSET
    quotas: Quotas | UnsetType = UNSET


class OrganisationReply(Reply, frozen=True):
    organisation: OrganisationView
