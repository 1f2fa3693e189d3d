"""Issued certificates in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.pki.model import IssuedCertificate, KnownCertificate, StoredCertificate
from hub_server.pki.tables import CertificateRow, CloneSuspicionRow
from hub_server.storage.engine import every_organisation
from protocol.enumerations import CertificateState
from protocol.oversight import CertificatesList

_KNOWN = (
    col(CertificateRow.serial),
    col(CertificateRow.agent_id),
    col(CertificateRow.public_key_sha256),
    col(CertificateRow.issuer),
    col(CertificateRow.not_after),
    col(CertificateRow.replaces),
    col(CertificateRow.first_used_at),
    col(CertificateRow.superseded_at),
    col(CertificateRow.revoked_at),
)

# Built once, for what each agent of a fleet that connects causes.
_OF_AGENT: Final = (
    col(CertificateRow.organisation_id) == bindparam("of_organisation"),
    col(CertificateRow.agent_id) == bindparam("of_agent"),
)
_IS_UNUSED: Final = col(CertificateRow.first_used_at).is_(None)
_USE: Final = (
    update(CertificateRow)
    .where(*_OF_AGENT, col(CertificateRow.serial) == bindparam("of_serial"), _IS_UNUSED)
    .values(first_used_at=bindparam("at"))
    .returning(col(CertificateRow.replaces), col(CertificateRow.not_before))
)
_SUPERSEDE: Final = (
    update(CertificateRow)
    .where(
        *_OF_AGENT,
        col(CertificateRow.serial) != bindparam("of_serial"),
        col(CertificateRow.superseded_at).is_(None),
        or_(
            col(CertificateRow.serial) == bindparam("of_replaced"),
            _IS_UNUSED & (col(CertificateRow.not_before) < bindparam("of_start")),
        ),
    )
    .values(superseded_at=bindparam("at"))
    .returning(col(CertificateRow.serial))
)


class CertificateStore:
    async def add(self, connection: AsyncConnection, certificate: IssuedCertificate) -> None:
        await connection.execute(
            insert(CertificateRow).values(
                serial=certificate.serial,
                organisation_id=certificate.organisation_id,
                agent_id=certificate.agent_id,
                public_key_sha256=certificate.public_key_sha256,
                pem=certificate.pem,
                issuer=certificate.issuer,
                replaces=certificate.replaces,
                not_before=certificate.not_before,
                not_after=certificate.not_after,
            )
        )

    async def find(self, connection: AsyncConnection, organisation_id: str, serial: str) -> StoredCertificate | None:
        rows = await self._stored(
            connection, col(CertificateRow.organisation_id) == organisation_id, col(CertificateRow.serial) == serial
        )
        return rows[0] if rows else None

    async def find_anywhere(self, connection: AsyncConnection, serial: str) -> StoredCertificate | None:
        """Return a certificate of any organisation; only somebody who proves to hold its key may ask."""
        rows = await self._stored(connection, col(CertificateRow.serial) == serial)
        return rows[0] if rows else None

    async def successor(
        self, connection: AsyncConnection, organisation_id: str, serial: str, public_key_sha256: bytes
    ) -> StoredCertificate | None:
        """Return the certificate that was issued for this key in place of `serial`."""
        rows = await self._stored(
            connection,
            col(CertificateRow.organisation_id) == organisation_id,
            col(CertificateRow.replaces) == serial,
            col(CertificateRow.public_key_sha256) == public_key_sha256,
        )
        return rows[0] if rows else None

    async def is_key_of_another(self, connection: AsyncConnection, public_key_sha256: bytes, agent_id: str) -> bool:
        """Tell whether the key belongs to another agent, of any organisation.

        On PostgreSQL the key stays locked until the transaction ends, so that two cannot claim it at once; SQLite has
        one writer anyway.
        """
        if connection.dialect.name == "postgresql":
            key = int.from_bytes(public_key_sha256[:8], signed=True)
            await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": key})
        async with every_organisation(connection):
            owners = await connection.scalar(
                select(func.count()).where(
                    col(CertificateRow.public_key_sha256) == public_key_sha256,
                    col(CertificateRow.agent_id) != agent_id,
                )
            )
        return bool(owners)

    def use(
        self, connection: Connection, organisation_id: str, agent_id: str, serial: str, at: datetime
    ) -> Sequence[str]:
        """Note the first use of a certificate and return the serials that it supersedes.

        Those are the one it replaces and older ones that were never used: their keys are lost.
        """
        of = {"of_organisation": organisation_id, "of_agent": agent_id, "of_serial": serial, "at": at}
        used = connection.execute(_USE, of).one_or_none()
        if used is None:
            return []
        than = {"of_replaced": used.replaces or "", "of_start": used.not_before}
        return connection.scalars(_SUPERSEDE, of | than).all()

    async def revoke_all_of(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, at: datetime
    ) -> None:
        await connection.execute(
            update(CertificateRow)
            .where(
                col(CertificateRow.organisation_id) == organisation_id,
                col(CertificateRow.agent_id) == agent_id,
                col(CertificateRow.revoked_at).is_(None),
            )
            .values(revoked_at=at)
        )

    async def known(self, connection: AsyncConnection, now: datetime) -> list[KnownCertificate]:
        """Return every certificate that has not expired."""
        return await self._known(connection, col(CertificateRow.not_after) > now)

    async def changed_since(self, connection: AsyncConnection, moment: datetime) -> list[KnownCertificate]:
        """Return what was revoked or superseded at `moment` or later."""
        return await self._known(
            connection, or_(col(CertificateRow.revoked_at) >= moment, col(CertificateRow.superseded_at) >= moment)
        )

    async def prune(self, connection: AsyncConnection, expired_before: datetime) -> None:
        """Drop certificates that ended and by which nobody can recover: an agent leaves one at each renewal."""
        counts_no_more = or_(
            col(CertificateRow.revoked_at).is_not(None), col(CertificateRow.superseded_at).is_not(None)
        )
        await connection.execute(
            delete(CertificateRow).where(counts_no_more, col(CertificateRow.not_after) < expired_before)
        )

    async def page(
        self, connection: AsyncConnection, organisation_id: str, request: CertificatesList, now: datetime
    ) -> tuple[list[StoredCertificate], int]:
        """Return the certificates asked for, soonest to end first, and how many there are in all."""
        conditions = [col(CertificateRow.organisation_id) == organisation_id]
        if request.agent_id is not None:
            conditions.append(col(CertificateRow.agent_id) == request.agent_id)
        if request.state is not None:
            conditions += _in_state(request.state, now)
        total = await connection.scalar(select(func.count()).select_from(CertificateRow).where(*conditions))
        rows = await connection.execute(
            select(CertificateRow)
            .where(*conditions)
            .order_by(col(CertificateRow.not_after), col(CertificateRow.serial))
            .limit(request.limit)
            .offset(request.offset)
        )
        return [_stored(row) for row in rows], total or 0

    async def _stored(self, connection: AsyncConnection, *conditions: ColumnElement[bool]) -> list[StoredCertificate]:
        return [_stored(row) for row in await connection.execute(select(CertificateRow).where(*conditions))]

    async def _known(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> list[KnownCertificate]:
        return [
            KnownCertificate(
                serial=row.serial,
                agent_id=row.agent_id,
                public_key_sha256=row.public_key_sha256,
                issuer=row.issuer,
                expires_at=row.not_after,
                replaces=row.replaces,
                is_used=row.first_used_at is not None,
                is_superseded=row.superseded_at is not None,
                is_revoked=row.revoked_at is not None,
            )
            for row in await connection.execute(select(*_KNOWN).where(condition))
        ]


class SuspicionStore:
    async def add(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        agent_id: str,
        at: datetime,
        *,
        older_address: str,
        newer_address: str,
    ) -> None:
        await connection.execute(
            insert(CloneSuspicionRow).values(
                organisation_id=organisation_id,
                agent_id=agent_id,
                at=at,
                older_address=older_address,
                newer_address=newer_address,
            )
        )

    async def count_since(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, moment: datetime
    ) -> int:
        count = await connection.scalar(
            select(func.count()).where(
                col(CloneSuspicionRow.organisation_id) == organisation_id,
                col(CloneSuspicionRow.agent_id) == agent_id,
                col(CloneSuspicionRow.at) > moment,
            )
        )
        return count or 0


def _in_state(state: CertificateState, now: datetime) -> Sequence[ColumnElement[bool]]:
    stands = (col(CertificateRow.revoked_at).is_(None), col(CertificateRow.not_after) > now)
    match state:
        case CertificateState.REVOKED:
            return (col(CertificateRow.revoked_at).is_not(None),)
        case CertificateState.EXPIRED:
            return (col(CertificateRow.revoked_at).is_(None), col(CertificateRow.not_after) <= now)
        case CertificateState.SUPERSEDED:
            return (*stands, col(CertificateRow.superseded_at).is_not(None))
        case CertificateState.CURRENT:
            return (*stands, col(CertificateRow.superseded_at).is_(None))


def _stored(row: Row[Any]) -> StoredCertificate:
    return StoredCertificate(
        certificate=IssuedCertificate(
            organisation_id=row.organisation_id,
            agent_id=row.agent_id,
            serial=row.serial,
            pem=row.pem,
            public_key_sha256=row.public_key_sha256,
            not_before=row.not_before,
            not_after=row.not_after,
            issuer=row.issuer,
            replaces=row.replaces,
        ),
        first_used_at=row.first_used_at,
        superseded_at=row.superseded_at,
        revoked_at=row.revoked_at,
    )
