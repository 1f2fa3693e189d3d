from collections.abc import Mapping
from typing import Final

from protocol.enumerations import AuthorityState, AuthorityUse, CertificateState
from protocol.oversight import (
    AuditEntryView,
    AuditSearch,
    AuditSearchReply,
    AuthoritiesList,
    AuthoritiesListReply,
    AuthorityView,
    CertificatesList,
    CertificatesListReply,
    CertificateView,
)
from protocol.requests import Reply, Request
from tests.protocol.examples.events import AGENT_ID, AT
from tests.protocol.examples.frames import NOW_MS

_DIGEST: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

REQUESTS: Final[Mapping[str, Request]] = {
    "certificates:list": CertificatesList(agent_id=AGENT_ID, state=CertificateState.SUPERSEDED, limit=20, offset=40),
    "authorities:list": AuthoritiesList(),
    "audit:search": AuditSearch(
        text="web-01",
        actor="user:ada",
        action="agents:*",
        target=f"agent:{AGENT_ID}",
        from_ms=NOW_MS - 3_600_000,
        to_ms=NOW_MS,
        limit=20,
        offset=40,
    ),
}
REPLIES: Final[Mapping[str, Reply]] = {
    "certificates:list": CertificatesListReply(
        certificates=[
            CertificateView(
                serial="5A1C9A6E",
                agent_id=AGENT_ID,
                hostname="web-01",
                issuer=_DIGEST,
                state=CertificateState.REVOKED,
                issued_at=AT,
                expires_at=AT,
                first_used_at=AT,
                revoked_at=AT,
            )
        ],
        total=41,
        limit=20,
        offset=40,
    ),
    "authorities:list": AuthoritiesListReply(
        authorities=[
            AuthorityView(
                id=_DIGEST,
                use=AuthorityUse.AGENTS,
                state=AuthorityState.ACTIVE,
                not_before=AT,
                not_after=AT,
                rotates_at=AT,
            )
        ],
        trust_version=3,
        root_at_hand=True,
        root_fingerprint=_DIGEST,
        advice=["take the root's key offline"],
    ),
    "audit:search": AuditSearchReply(
        entries=[
            AuditEntryView(
                hub_id="hub-1",
                number=1024,
                at=AT,
                actor="user:ada",
                action="agents:update",
                target=f"agent:{AGENT_ID}",
                detail={"name": "Web 1"},
                hash=_DIGEST,
            )
        ],
        total=41,
        limit=20,
        offset=40,
    ),
}
