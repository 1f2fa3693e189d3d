from collections.abc import Mapping
from typing import Final

from protocol.enumerations import Role
from protocol.people import (
    AccountBeginTotp,
    AccountBeginTotpReply,
    AccountConfirmTotp,
    AccountGet,
    AccountGetReply,
    AccountNewRecoveryCodes,
    AccountRemoveTotp,
    AccountSetPassword,
    AccountSignOutEverywhere,
    ApiKeyReply,
    ApiKeysCreate,
    ApiKeysCreateReply,
    ApiKeysList,
    ApiKeysListReply,
    ApiKeysRevoke,
    ApiKeyView,
    MembershipView,
    OrganisationReply,
    OrganisationsCreate,
    OrganisationsList,
    OrganisationsListReply,
    OrganisationsUpdate,
    OrganisationView,
    Quotas,
    RecoveryCodesReply,
    RolesList,
    RolesListReply,
    RoleView,
    SignInView,
    UserReply,
    UsersCreate,
    UsersList,
    UsersListReply,
    UsersName,
    UsersSetPassword,
    UsersSetRole,
    UserView,
)
from protocol.requests import Reply, Request
from tests.protocol.examples.events import AT

_USER_ID: Final = "01K9TZVUSR"
_USER: Final = UserView(
    id=_USER_ID,
    username="ada",
    role=Role.TECHNICIAN,
    totp=True,
    is_elsewhere=False,
    created_at=AT,
    locked_at=AT,
    last_sign_in_at=AT,
)
_KEY: Final = ApiKeyView(
    id="7hQz1",
    name="nightly report",
    role=Role.VIEWER,
    created_at=AT,
    created_by="user:ada",
    expires_at=AT,
    last_used_at=AT,
    revoked_at=None,
)
_QUOTAS: Final = Quotas(agents=1000, users=25, open_commands=5000)
_ORGANISATION: Final = OrganisationView(
    id="01K9TZVORG", name="Nordic Mills", quotas=_QUOTAS, agents=812, users=14, created_at=AT
)
_CODES: Final = RecoveryCodesReply(recovery_codes=["k7mq2-x9rtd"])
_NAME: Final = UsersName(user_id=_USER_ID)
_USER_REPLY: Final = UserReply(user=_USER)
_ORGANISATION_REPLY: Final = OrganisationReply(organisation=_ORGANISATION)

REQUESTS: Final[Mapping[str, Request]] = {
    "account:get": AccountGet(),
    "account:set-password": AccountSetPassword(current="the old one", new="the new one"),
    "account:begin-totp": AccountBeginTotp(password="the one"),
    "account:confirm-totp": AccountConfirmTotp(code="123456"),
    "account:remove-totp": AccountRemoveTotp(password="the one", code="123456"),
    "account:new-recovery-codes": AccountNewRecoveryCodes(password="the one", code="123456"),
    "account:sign-out-everywhere": AccountSignOutEverywhere(),
    "users:list": UsersList(limit=20, offset=40),
    "users:create": UsersCreate(username="ada", password="the first one", role=Role.TECHNICIAN),
    "users:set-role": UsersSetRole(user_id=_USER_ID, role=Role.AUDITOR),
    "users:set-password": UsersSetPassword(user_id=_USER_ID, password="the next one"),
    "users:remove-totp": _NAME,
    "users:lock": _NAME,
    "users:unlock": _NAME,
    "users:remove": _NAME,
    "roles:list": RolesList(),
    "api-keys:create": ApiKeysCreate(name="nightly report", role=Role.VIEWER, ttl_sec=86400),
    "api-keys:list": ApiKeysList(limit=20, offset=40),
    "api-keys:revoke": ApiKeysRevoke(key_id="7hQz1"),
    "organisations:list": OrganisationsList(limit=20, offset=40),
    "organisations:create": OrganisationsCreate(name="Nordic Mills", quotas=_QUOTAS),
    "organisations:update": OrganisationsUpdate(organisation_id="01K9TZVORG", name="Mills", quotas=_QUOTAS),
}
REPLIES: Final[Mapping[str, Reply]] = {
    "account:get": AccountGetReply(
        user_id=_USER_ID,
        username="ada",
        organisation_id="01K9TZVORG",
        organisation="Nordic Mills",
        role=Role.TECHNICIAN,
        permissions=["fleet:read", "self"],
        totp=True,
        recovery_codes_left=9,
        second_factor_needed=False,
        password_changed_at=AT,
        memberships=[MembershipView(organisation_id="01K9TZVORG", organisation="Nordic Mills", role=Role.TECHNICIAN)],
        sign_ins=[SignInView(id="01K9TZVSGN", signed_in_at=AT, last_used_at=AT, expires_at=AT, is_this=True)],
    ),
    "account:set-password": Reply(),
    "account:begin-totp": AccountBeginTotpReply(
        secret="JBSWY3DPEHPK3PXP", uri="otpauth://totp/JTNT:ada?secret=JBSWY3DPEHPK3PXP&issuer=JTNT"
    ),
    "account:confirm-totp": _CODES,
    "account:remove-totp": Reply(),
    "account:new-recovery-codes": _CODES,
    "account:sign-out-everywhere": Reply(),
    "users:list": UsersListReply(users=[_USER], grantable=[Role.VIEWER], total=41, limit=20, offset=40),
    "users:create": _USER_REPLY,
    "users:set-role": _USER_REPLY,
    "users:set-password": _USER_REPLY,
    "users:remove-totp": _USER_REPLY,
    "users:lock": _USER_REPLY,
    "users:unlock": _USER_REPLY,
    "users:remove": Reply(),
    "roles:list": RolesListReply(
        roles=[RoleView(role=Role.VIEWER, permissions=["fleet:read", "self"], is_grantable=True)]
    ),
    "api-keys:create": ApiKeysCreateReply(key=_KEY, key_text="jtntk_7hQz1.s"),
    "api-keys:list": ApiKeysListReply(keys=[_KEY], total=41, limit=20, offset=40),
    "api-keys:revoke": ApiKeyReply(key=_KEY),
    "organisations:list": OrganisationsListReply(organisations=[_ORGANISATION], total=41, limit=20, offset=40),
    "organisations:create": _ORGANISATION_REPLY,
    "organisations:update": _ORGANISATION_REPLY,
}
