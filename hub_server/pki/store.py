"""Issued certificates in the database."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.pki.model import IssuedCertificate
from hub_server.pki.tables import CertificateRow


class CertificateStore:
    async def add(self, connection: AsyncConnection, certificate: IssuedCertificate) -> None:
        await connection.execute(
            insert(CertificateRow).values(
                serial=certificate.serial,
                organisation_id=certificate.organisation_id,
                agent_id=certificate.agent_id,
                public_key_sha256=certificate.public_key_sha256,
                pem=certificate.pem,
                not_before=certificate.not_before,
                not_after=certificate.not_after,
            )
        )

    async def find(self, connection: AsyncConnection, organisation_id: str, serial: str) -> IssuedCertificate | None:
        """Return the certificate unless it was revoked."""
        row = (
            await connection.execute(
                select(CertificateRow).where(
                    col(CertificateRow.organisation_id) == organisation_id,
                    col(CertificateRow.serial) == serial,
                    col(CertificateRow.revoked_at).is_(None),
                )
            )
        ).one_or_none()
        if row is None:
            return None
        return IssuedCertificate(
            organisation_id=row.organisation_id,
            agent_id=row.agent_id,
            serial=row.serial,
            pem=row.pem,
            public_key_sha256=row.public_key_sha256,
            not_before=row.not_before,
            not_after=row.not_after,
        )

    async def is_key_of_another(self, connection: AsyncConnection, public_key_sha256: bytes, agent_id: str) -> bool:
        """Tell whether the key belongs to another agent, of any organisation.

        On PostgreSQL the key stays locked until the transaction ends, so that two cannot claim it at once; SQLite has
        one writer anyway.
        """
        if connection.dialect.name == "postgresql":
            key = int.from_bytes(public_key_sha256[:8], signed=True)
            await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": key})
        owners = await connection.scalar(
            select(func.count()).where(
                col(CertificateRow.public_key_sha256) == public_key_sha256,
                col(CertificateRow.agent_id) != agent_id,
            )
        )
        return bool(owners)

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

    async def known(
        self, connection: AsyncConnection, now: datetime
    ) -> list[tuple[str, str, datetime, datetime | None]]:
        """Return (serial, agent id, not after, revoked at) of every certificate that has not expired."""
        rows = await connection.execute(
            select(
                col(CertificateRow.serial),
                col(CertificateRow.agent_id),
                col(CertificateRow.not_after),
                col(CertificateRow.revoked_at),
            ).where(col(CertificateRow.not_after) > now)
        )
        return [(row.serial, row.agent_id, row.not_after, row.revoked_at) for row in rows]
