"""The matrix of operations, roles and organisations: what each must answer, written down as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from protocol.enumerations import Role
from tests.integration.hub import PASSWORD

Json = dict[str, Any]
Kind = Literal[
    "agent",
    "fresh agent",
    "quarantined agent",
    "alert",
    "command",
    "policy",
    "fresh policy",
    "token",
    "organisation key",
    "approval",
    "user",
    "leaver",
    "api key",
    "organisation",
]
VIEW: Final = Role.VIEWER
OPER: Final = Role.OPERATOR
TECH: Final = Role.TECHNICIAN
APPR: Final = Role.APPROVER
ORG: Final = Role.ORG_ADMIN
HUB: Final = Role.HUB_ADMIN
AUD: Final = Role.AUDITOR
ALL: Final = (VIEW, OPER, TECH, APPR, ORG, HUB, AUD)
TOKEN: Final = "$token"
"""Stands for the access token of whoever asks."""
NAME: Final = "$name"
"""Stands for a name that nobody has."""
NOTHING: Final = "nothing"
"""The operation succeeds and shows nothing of the other organisation."""


class Row(Struct, frozen=True, kw_only=True):
    """What one operation must answer.

    `who`: the roles that may ask it; all others get `forbidden`. `field` names a thing of kind `thing`: of the own
    organisation the answer is `own` ("ok" or an error's code), of the other one `other`. An operation that names no
    thing is asked once, and must show nothing of the other organisation unless it `shows_all`. `ends` the sign-in.
    """

    who: frozenset[Role]
    thing: Kind | None = None
    field: str = ""
    body: Mapping[str, Any] = {}
    own: str = "ok"
    other: str = "not_found"
    shows_all: bool = False
    ends: bool = False


def about(thing: Kind, field: str, *who: Role, own: str = "ok", other: str = "not_found", **body: Any) -> Row:
    return Row(who=frozenset(who), thing=thing, field=field, body=body, own=own, other=other)


def plain(*who: Role, own: str = "ok", shows_all: bool = False, ends: bool = False, **body: Any) -> Row:
    return Row(who=frozenset(who), body=body, own=own, shows_all=shows_all, ends=ends)


EXEC: Final[Json] = {"argv": ["uname"]}
SPAN: Final[Json] = {"metrics": ["cpu_percent"], "from": 0, "to": 2**50}
MATRIX: Final[Mapping[str, Row]] = {
    "agents:list": plain(*ALL),
    "agents:get": about("agent", "agentId", *ALL),
    "agents:update": about("agent", "agentId", TECH, ORG, HUB, tags=["seen"]),
    "agents:delete": about("fresh agent", "agentId", ORG, HUB),
    "agents:revoke": about("fresh agent", "agentId", ORG, HUB),
    "agents:quarantine": about("fresh agent", "agentId", ORG, HUB),
    "agents:release": about("quarantined agent", "agentId", ORG, HUB),
    "metrics:query": about("agent", "agentIds[]", *ALL, other=NOTHING, **SPAN),
    "hub:health": plain(ORG, HUB),
    "hub:metrics": plain(ORG, HUB, **SPAN),
    "inventory:get": about("agent", "agentId", *ALL),
    "metrics:newest": about("agent", "agentId", *ALL),
    "reports:list": about("agent", "agentId", *ALL, other=NOTHING),
    "alerts:list": about("agent", "agentId", *ALL, other=NOTHING),
    "alerts:resolve": about("alert", "alertId", OPER, TECH, APPR, ORG, HUB),
    "commands:create": about("agent", "agentId", TECH, ORG, commandData=EXEC),
    "commands:list": about("agent", "agentId", OPER, TECH, APPR, ORG, HUB, AUD, other=NOTHING),
    "commands:get": about("command", "commandId", OPER, TECH, APPR, ORG, HUB, AUD),
    "commands:cancel": about("command", "commandId", TECH, ORG),
    "commands:output": about("command", "commandId", OPER, TECH, APPR, ORG, HUB, AUD, stream="stdout"),
    "policies:list": plain(*ALL),
    "policies:get": about("policy", "policyId", *ALL),
    "policies:create": plain(ORG, terms={"name": NAME}),
    "policies:update": about("policy", "policyId", ORG, terms={"name": NAME}),
    "policies:delete": about("fresh policy", "policyId", ORG),
    "compliance:list": about("policy", "policyId", *ALL, other=NOTHING),
    "compliance:summary": plain(*ALL),
    "tokens:create": plain(ORG, HUB),
    "tokens:list": plain(APPR, ORG, HUB, AUD, limit=1000),
    "tokens:revoke": about("token", "tokenId", ORG, HUB),
    "organisation-keys:create": plain(ORG, HUB, name=NAME),
    "organisation-keys:list": plain(APPR, ORG, HUB, AUD, limit=1000),
    "organisation-keys:revoke": about("organisation key", "keyId", ORG, HUB),
    "approvals:list": plain(APPR, ORG, HUB, AUD, state=None, limit=1000),
    "approvals:approve": about("approval", "approvalId", APPR, ORG, HUB),
    "approvals:reject": about("approval", "approvalId", APPR, ORG, HUB),
    "certificates:list": about("agent", "agentId", ORG, HUB, AUD, other=NOTHING),
    "authorities:list": plain(ORG, HUB, AUD),
    "account:get": plain(*ALL),
    "account:set-password": plain(*ALL, current=PASSWORD, new=PASSWORD),
    "account:begin-totp": plain(*ALL, password=PASSWORD),
    "account:confirm-totp": plain(*ALL, own="invalid_request", code="no code"),
    "account:remove-totp": plain(*ALL, own="conflict", password=PASSWORD, code="000000"),
    "account:new-recovery-codes": plain(*ALL, own="conflict", password=PASSWORD, code="000000"),
    "account:sign-out-everywhere": plain(*ALL, ends=True),
    "users:list": plain(ORG, HUB, AUD, limit=1000),
    "users:create": plain(ORG, HUB, username=NAME, password=PASSWORD, role="viewer"),
    "users:set-role": about("user", "userId", ORG, HUB, role="operator"),
    "users:set-password": about("user", "userId", ORG, HUB, password=PASSWORD),
    "users:remove-totp": about("user", "userId", ORG, HUB),
    "users:lock": about("user", "userId", ORG, HUB),
    "users:unlock": about("user", "userId", ORG, HUB),
    "users:remove": about("leaver", "userId", ORG, HUB),
    "roles:list": plain(*ALL),
    "api-keys:create": plain(ORG, HUB, name=NAME, role="viewer"),
    "api-keys:list": plain(ORG, HUB, AUD, limit=1000),
    "api-keys:revoke": about("api key", "keyId", ORG, HUB),
    "organisations:list": plain(HUB, shows_all=True),
    "organisations:create": plain(HUB, name=NAME),
    "organisations:update": about("organisation", "organisationId", HUB, other="ok"),
    "audit:search": plain(ORG, HUB, AUD, limit=1000),
    "feed:subscribe": about("agent", "agentIds[]", *ALL, other=NOTHING),
    "feed:ack": plain(*ALL, version=0),
    "auth:refresh": plain(*ALL, token=TOKEN),
}
