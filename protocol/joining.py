"""Operations on what lets machines join: enrollment tokens, organisation keys, and the queue of those who wait."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from protocol.elements import Word
from protocol.enumerations import ApprovalKind, ApprovalState
from protocol.events import Instant, Shape
from protocol.requests import Label, Limit, Name, Offset, Reply, Request, Tags


class TokensCreate(Request, frozen=True):
    """`approval`: who joins with the token waits until a person lets them in."""

    site: Label = ""
    tags: Tags = field(default_factory=list)
    uses: Annotated[int, Meta(ge=1, le=10000)] = 1
    ttl_sec: Annotated[int, Meta(ge=60, le=30 * 86400)] = 1800
    approval: bool = False


class TokenView(Shape, frozen=True):
    id: str
    site: str
    tags: list[str]
    uses: int
    used: int
    approval: bool
    created_at: Instant
    created_by: str
    expires_at: Instant
    revoked_at: Instant | None


class TokensCreateReply(Reply, frozen=True):
    """The only time the secret is shown: the hub keeps its hash."""

    token: TokenView
    token_text: str
    join_string: str


class TokensList(Request, frozen=True):
    limit: Limit = 100
    offset: Offset = 0


class TokensListReply(Reply, frozen=True):
    tokens: list[TokenView]
    total: int
    limit: int
    offset: int


class TokensRevoke(Request, frozen=True):
    token_id: Word


class TokensRevokeReply(Reply, frozen=True):
    token: TokenView


class OrganisationKeysCreate(Request, frozen=True):
    """A key for `POST /api/agents/register` (seed 004). It lets in any number of machines until it ends."""

    name: Name
    site: Label = ""
    tags: Tags = field(default_factory=list)
    ttl_sec: Annotated[int, Meta(ge=60, le=366 * 86400)] = 90 * 86400


class OrganisationKeyView(Shape, frozen=True):
    id: str
    name: str
    site: str
    tags: list[str]
    used: int
    created_at: Instant
    created_by: str
    expires_at: Instant
    last_used_at: Instant | None
    revoked_at: Instant | None


class OrganisationKeysCreateReply(Reply, frozen=True):
    """The only time the secret, `itsk_…`, is shown: the hub keeps its hash."""

    key: OrganisationKeyView
    key_text: str


class OrganisationKeysList(Request, frozen=True):
    limit: Limit = 100
    offset: Offset = 0


class OrganisationKeysListReply(Reply, frozen=True):
    keys: list[OrganisationKeyView]
    total: int
    limit: int
    offset: int


class OrganisationKeysRevoke(Request, frozen=True):
    key_id: Word


class OrganisationKeysRevokeReply(Reply, frozen=True):
    key: OrganisationKeyView


class ApprovalView(Shape, frozen=True):
    """A machine that waits: a new one, or a known one whose certificate ran out and that proved its old key.

    `fingerprint`: SHA-256 of the machine's public key in hexadecimal; `jtnt-agent enroll` prints the same.
    """

    id: str
    kind: ApprovalKind
    state: ApprovalState
    agent_id: str
    hostname: str
    os: str
    address: str
    fingerprint: str
    site: str
    tags: list[str]
    requested_at: Instant
    expires_at: Instant
    decided_at: Instant | None
    decided_by: str | None


class ApprovalsList(Request, frozen=True):
    state: ApprovalState | None = ApprovalState.PENDING
    limit: Limit = 100
    offset: Offset = 0


class ApprovalsListReply(Reply, frozen=True):
    approvals: list[ApprovalView]
    total: int
    limit: int
    offset: int


class ApprovalsDecide(Request, frozen=True):
    approval_id: Word


class ApprovalReply(Reply, frozen=True):
    approval: ApprovalView
