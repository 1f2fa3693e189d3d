"""Operations on the certificates of agents."""

from __future__ import annotations

from datetime import datetime

from hub_server.access.model import Permission
from hub_server.clock import Clock
from hub_server.fleet.service import FleetService
from hub_server.gateway.dashboards.operations import Caller, Entry, Table
from hub_server.pki.model import StoredCertificate
from hub_server.pki.service import CertificateService
from protocol.enumerations import CertificateState
from protocol.oversight import CertificatesList, CertificatesListReply, CertificateView


def certificate_operations(certificates: CertificateService, fleet: FleetService, clock: Clock) -> Table:
    async def page(caller: Caller, request: CertificatesList) -> CertificatesListReply:
        stored, total = await certificates.list(caller.principal, request)
        now = clock.now()
        return CertificatesListReply(
            certificates=[_view(one, fleet, now) for one in stored],
            total=total,
            limit=request.limit,
            offset=request.offset,
        )

    return {"certificates:list": Entry(Permission.CERTIFICATES_READ, page)}


def _view(stored: StoredCertificate, fleet: FleetService, now: datetime) -> CertificateView:
    certificate = stored.certificate
    return CertificateView(
        serial=certificate.serial,
        agent_id=certificate.agent_id,
        hostname=fleet.hostname_of(certificate.organisation_id, certificate.agent_id),
        issuer=certificate.issuer,
        state=_state_of(stored, now),
        issued_at=certificate.not_before,
        expires_at=certificate.not_after,
        first_used_at=stored.first_used_at,
        revoked_at=stored.revoked_at,
    )


def _state_of(stored: StoredCertificate, now: datetime) -> CertificateState:
    if stored.revoked_at is not None:
        return CertificateState.REVOKED
    if stored.certificate.not_after <= now:
        return CertificateState.EXPIRED
    return CertificateState.CURRENT if stored.superseded_at is None else CertificateState.SUPERSEDED
