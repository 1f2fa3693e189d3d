"""Operations that show what the hub stands on: certificates, its authorities, and the audit of what was done."""

from __future__ import annotations

from typing import Any

from protocol.elements import Text, UnixMs, Word
from protocol.enumerations import AuthorityState, AuthorityUse, CertificateState
from protocol.events import Instant, Shape
from protocol.requests import Limit, Offset, Reply, Request


class CertificateView(Shape, frozen=True):
    """A certificate of an agent. `issuer`: the id of the authority that issued it."""

    serial: str
    agent_id: str
    hostname: str
    issuer: str
    state: CertificateState
    issued_at: Instant
    expires_at: Instant
    first_used_at: Instant | None
    revoked_at: Instant | None


class CertificatesList(Request, frozen=True):
    """Soonest to end first. Without `state`, those that are current."""

    agent_id: Word | None = None
    state: CertificateState | None = CertificateState.CURRENT
    limit: Limit = 100
    offset: Offset = 0


class CertificatesListReply(Reply, frozen=True):
    certificates: list[CertificateView]
    total: int
    limit: int
    offset: int


class AuthorityView(Shape, frozen=True):
    """A key of the hub that others trust. `id`: its key id, or the SHA-256 of its certificate in hexadecimal."""

    id: str
    use: AuthorityUse
    state: AuthorityState
    not_before: Instant
    not_after: Instant
    rotates_at: Instant | None


class AuthoritiesList(Request, frozen=True):
    pass


class AuthoritiesListReply(Reply, frozen=True):
    """`root_at_hand`: the hub can rotate by itself. `advice`: what a person should do, empty where nothing."""

    authorities: list[AuthorityView]
    trust_version: int
    root_at_hand: bool
    root_fingerprint: str
    advice: list[str]


class AuditEntryView(Shape, frozen=True):
    """What was done. `number` counts within `hub_id`'s chain; `actor`: `user:…`, `agent:…`, `token:…`, `key:…` or
    `hub`; `target`: `<kind>:<id>`.
    """

    hub_id: str
    number: int
    at: Instant
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    hash: str


class AuditSearch(Request, frozen=True):
    """Newest first. Every given condition must hold. `text` is found in actor, action, target or detail, in any case.

    `action` may end in `*`. Times in ms since the epoch, `from` included, `to` excluded.
    """

    text: Text = ""
    actor: Word | None = None
    action: Word | None = None
    target: Word | None = None
    from_ms: UnixMs | None = None
    to_ms: UnixMs | None = None
    limit: Limit = 100
    offset: Offset = 0


class AuditSearchReply(Reply, frozen=True):
    entries: list[AuditEntryView]
    total: int
    limit: int
    offset: int
