"""How an agent whose certificate ran out gets a new one: a proof by the old key, and a person's yes.

The agent stays who it was. The proof is asked for each time, also when the machine only asks whether it may come in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.record import record
from hub_server.enrollment.approvals import ApprovalQueue, turned_away
from hub_server.enrollment.engine import Fetched, Lapsed, LetIn, NotAsked, TurnedAway, Waiting, answer_to
from hub_server.enrollment.joining import Joined, Queued
from hub_server.enrollment.model import Approval
from hub_server.enrollment.ports import Agents, Anchor, Certificate, Certificates, Member
from hub_server.enrollment.proof import PresentedCertificate
from hub_server.errors import Forbidden, InvalidRequest, RateLimited, Unauthenticated
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enrollment import RecoverRequest, recovery_statement
from protocol.enumerations import AgentTrust, ApprovalKind

CLOCKS_APART_MAX: Final = timedelta(minutes=10)
WAITING_MAX: Final = 3
"""How many recoveries of one agent may wait: whoever has its old key could fill the queue otherwise."""


class Proven(msgspec.Struct, frozen=True):
    """A machine that holds the key of one of the hub's certificates. `key`: SHA-256 of its new public key."""

    certificate: Certificate
    member: Member
    key: bytes


class Recovery:
    def __init__(
        self,
        *,
        database: Database,
        certificates: Certificates,
        agents: Agents,
        anchor: Anchor,
        queue: ApprovalQueue,
        is_enabled: bool,
    ) -> None:
        self._database = database
        self._certificates = certificates
        self._agents = agents
        self._anchor = anchor
        self._queue = queue
        self._is_enabled = is_enabled

    async def proven(self, request: RecoverRequest, now: datetime) -> Certificate:
        """Return the certificate whose key signed the request.

        Raises Unauthenticated; Forbidden when this hub recovers nobody.
        """
        if not self._is_enabled:
            raise Forbidden("this hub recovers no certificates (enrollment.recovery is off); enroll with a new token")
        presented = PresentedCertificate.parse(request.certificate_pem)
        if abs(now.timestamp() * 1000 - request.signed_at_ms) > CLOCKS_APART_MAX.total_seconds() * 1000:
            raise Unauthenticated(
                f"the request was signed at another time than the hub's {now:%Y-%m-%d %H:%M} UTC; set the machine's "
                "clock and try again",
                path="$.signed_at_ms",
            )
        async with self._database.read(EVERY_ORGANISATION) as connection:
            known = await self._certificates.recoverable(connection, presented.serial)
        if known is None or not presented.is_leaf_of(known.certificate.pem):
            raise _unknown()
        statement = recovery_statement(self._anchor.trust_domain, request.csr_pem, request.signed_at_ms)
        if not presented.has_signed(statement, request.signature):
            raise Unauthenticated("the signature is not of the certificate's key", path="$.signature")
        return known.certificate

    async def member(self, certificate: Certificate, csr_pem: str) -> Proven:
        """Return whose certificate was proven. Raises Forbidden, Unauthenticated, InvalidRequest for the CSR."""
        member = await self._agents.find(certificate.organisation_id, certificate.agent_id)
        if member is None:
            raise _unknown()
        if member.trust is not AgentTrust.TRUSTED:
            raise Forbidden(f"this agent is {member.trust}: it gets no certificate; ask whoever runs the hub")
        key = self._certificates.key_sha256_of(csr_pem)
        if key == certificate.public_key_sha256:
            raise InvalidRequest("a new certificate needs a new key", path="$.csr_pem")
        return Proven(certificate, member, key)

    async def recovered(
        self, connection: AsyncConnection, proven: Proven, csr_pem: str, address: str, now: datetime
    ) -> Joined | Queued:
        """Raises Forbidden, NotFound, KeyInUse, RateLimited."""
        old = proven.certificate
        wanted = self._queue.request(
            ApprovalKind.RECOVER,
            organisation_id=old.organisation_id,
            token_id=None,
            agent_id=old.agent_id,
            public_key_sha256=proven.key,
            csr_pem=csr_pem,
            hostname=proven.member.hostname,
            os=proven.member.os_type,
            address=address,
            site=proven.member.site,
            tags=proven.member.tags,
            now=now,
        )
        stored = await self._queue.store.of_key(connection, old.organisation_id, proven.key)
        match answer_to(wanted, stored, now):
            case NotAsked(before):
                return await self._asked(connection, wanted, before, now)
            case Lapsed(approval):
                return await self._asked(connection, wanted, approval, now)
            case TurnedAway(approval):
                raise turned_away(approval)
            case Waiting(approval):
                return Queued(approval)
            case LetIn(approval):
                return Joined(await self._issued(connection, approval, old, csr_pem, now), is_new=True)
            case Fetched(approval, serial):
                again = await self._certificates.find(connection, old.organisation_id, serial)
                if again is None or again.replaces != old.serial or again.not_after <= now:
                    return await self._asked(connection, wanted, approval, now)
                return Joined(again, is_new=False)

    async def _asked(
        self, connection: AsyncConnection, wanted: Approval, before: Approval | None, now: datetime
    ) -> Queued:
        waiting = await self._queue.store.waiting_of(connection, wanted.organisation_id, wanted.agent_id, now)
        if waiting >= WAITING_MAX:
            raise RateLimited(
                f"{waiting} machines wait already to be this agent; a person must decide first", retry_after_seconds=900
            )
        await self._queue.put(connection, wanted, before, f"agent:{wanted.agent_id}")
        return Queued(wanted)

    async def _issued(
        self, connection: AsyncConnection, approval: Approval, old: Certificate, csr_pem: str, now: datetime
    ) -> Certificate:
        organisation_id = old.organisation_id
        certificate = await self._certificates.recover_issue(
            connection, organisation_id, old.agent_id, csr_pem, replaces=old.serial
        )
        fetched = msgspec.structs.replace(approval, certificate_serial=certificate.serial)
        await self._queue.store.change(connection, organisation_id, approval.id, fetched)
        await record(
            connection,
            organisation_id=organisation_id,
            at=now,
            actor=f"agent:{old.agent_id}",
            action="agents:recover",
            target=f"agent:{old.agent_id}",
            detail={"approval": approval.id, "replaces": old.serial, "serial": certificate.serial},
        )
        return certificate


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        "this hub knows no such certificate, or it counts no more; enroll again with a new token",
        path="$.certificate_pem",
    )
