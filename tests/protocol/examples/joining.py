from collections.abc import Mapping
from typing import Final

from protocol.enumerations import ApprovalKind, ApprovalState
from protocol.joining import (
    ApprovalReply,
    ApprovalsDecide,
    ApprovalsList,
    ApprovalsListReply,
    ApprovalView,
    OrganisationKeysCreate,
    OrganisationKeysCreateReply,
    OrganisationKeysList,
    OrganisationKeysListReply,
    OrganisationKeysRevoke,
    OrganisationKeysRevokeReply,
    OrganisationKeyView,
    TokensCreate,
    TokensCreateReply,
    TokensList,
    TokensListReply,
    TokensRevoke,
    TokensRevokeReply,
    TokenView,
)
from protocol.requests import Reply, Request
from tests.protocol.examples.events import AGENT_ID, AT

_TOKEN: Final = TokenView(
    id="1LtQ8Jn3kZb",
    site="Oslo",
    tags=["web"],
    uses=5,
    used=2,
    approval=True,
    created_at=AT,
    created_by="user:ada",
    expires_at=AT,
    revoked_at=AT,
)
_KEY: Final = OrganisationKeyView(
    id="4fJk2",
    name="golden image",
    site="Oslo",
    tags=["web"],
    used=12,
    created_at=AT,
    created_by="user:ada",
    expires_at=AT,
    last_used_at=AT,
    revoked_at=None,
)
_APPROVAL: Final = ApprovalView(
    id="01K9TZW0AP",
    kind=ApprovalKind.RECOVER,
    state=ApprovalState.APPROVED,
    agent_id=AGENT_ID,
    hostname="web-01",
    os="linux",
    address="192.0.2.10",
    fingerprint="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    site="Oslo",
    tags=["web"],
    requested_at=AT,
    expires_at=AT,
    decided_at=AT,
    decided_by="user:ada",
)

REQUESTS: Final[Mapping[str, Request]] = {
    "tokens:create": TokensCreate(site="Oslo", tags=["web"], uses=5, ttl_sec=3600, approval=True),
    "tokens:list": TokensList(limit=20, offset=40),
    "tokens:revoke": TokensRevoke(token_id="1LtQ8Jn3kZb"),
    "organisation-keys:create": OrganisationKeysCreate(name="golden image", site="Oslo", tags=["web"], ttl_sec=86400),
    "organisation-keys:list": OrganisationKeysList(limit=20, offset=40),
    "organisation-keys:revoke": OrganisationKeysRevoke(key_id="4fJk2"),
    "approvals:list": ApprovalsList(state=ApprovalState.REJECTED, limit=20, offset=40),
    "approvals:approve": ApprovalsDecide(approval_id="01K9TZW0AP"),
    "approvals:reject": ApprovalsDecide(approval_id="01K9TZW0AP"),
}
REPLIES: Final[Mapping[str, Reply]] = {
    "tokens:create": TokensCreateReply(
        token=_TOKEN,
        token_text="jtnte_1LtQ8Jn3kZb.s.p.c",
        join_string="jtnt://hub.example:3001/#jtnte_1LtQ8Jn3kZb.s.p.c",
    ),
    "tokens:list": TokensListReply(tokens=[_TOKEN], total=41, limit=20, offset=40),
    "tokens:revoke": TokensRevokeReply(token=_TOKEN),
    "organisation-keys:create": OrganisationKeysCreateReply(key=_KEY, key_text="itsk_4fJk2.s"),
    "organisation-keys:list": OrganisationKeysListReply(keys=[_KEY], total=41, limit=20, offset=40),
    "organisation-keys:revoke": OrganisationKeysRevokeReply(key=_KEY),
    "approvals:list": ApprovalsListReply(approvals=[_APPROVAL], total=41, limit=20, offset=40),
    "approvals:approve": ApprovalReply(approval=_APPROVAL),
    "approvals:reject": ApprovalReply(approval=_APPROVAL),
}
