"""The hub's authorities and trust documents in the database: rows as they are, private keys still sealed.

Table `authorities`: one row a key that agents or people still trust; `use` says what for, `retired_at` when it was used
last. `sealed_key` is empty once a key is retired or, for the root, taken offline. Table `trust_documents`: every
version that was ever signed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.pki.certificates import BACK_DATED
from hub_server.pki.engine import Held
from hub_server.pki.tables import AuthorityRow, CertificateRow, TrustDocumentRow
from protocol.enumerations import AuthorityUse
from protocol.envelope import SignedTrust
from protocol.frames import Signature

TABLE: Final = "authorities"
COLUMN: Final = "sealed_key"
_LOCK: Final = 0x4A544E55


class Record(Struct, frozen=True, kw_only=True):
    """A row of `authorities`. `public_key`: SubjectPublicKeyInfo in PEM. `sealed_key`: PKCS 8 in DER, sealed."""

    id: str
    use: AuthorityUse
    certificate_pem: str | None
    public_key: str
    sealed_key: bytes | None
    not_before: datetime
    not_after: datetime
    active_from: datetime
    retired_at: datetime | None = None

    def as_held(self, needed_until: datetime | None = None) -> Held:
        return Held(
            id=self.id,
            use=self.use,
            made_at=self.not_before if self.certificate_pem is None else self.not_before + BACK_DATED,
            not_after=self.not_after,
            active_from=self.active_from,
            retired_at=self.retired_at,
            needed_until=needed_until,
        )


class Archive:
    async def lock(self, connection: AsyncConnection) -> None:
        """Keep other hubs from changing authorities until the transaction ends; SQLite has one writer anyway."""
        if connection.dialect.name == "postgresql":
            await connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})

    async def lock_shared(self, connection: AsyncConnection) -> None:
        """Wait for who changes authorities, so that all reads of the transaction fit together."""
        if connection.dialect.name == "postgresql":
            await connection.execute(text("select pg_advisory_xact_lock_shared(:key)"), {"key": _LOCK})

    async def records(self, connection: AsyncConnection) -> list[Record]:
        rows = await connection.execute(select(AuthorityRow).order_by(AuthorityRow.use, col(AuthorityRow.active_from)))
        return [
            Record(
                id=row.id,
                use=AuthorityUse(row.use),
                certificate_pem=row.certificate_pem,
                public_key=row.public_key,
                sealed_key=row.sealed_key,
                not_before=row.not_before,
                not_after=row.not_after,
                active_from=row.active_from,
                retired_at=row.retired_at,
            )
            for row in rows
        ]

    async def add(self, connection: AsyncConnection, record: Record) -> None:
        await connection.execute(insert(AuthorityRow).values(**msgspec.structs.asdict(record)))

    async def retire(self, connection: AsyncConnection, authority_id: str, at: datetime) -> None:
        """Note that the key is used no more, and forget its private half."""
        statement = update(AuthorityRow).where(col(AuthorityRow.id) == authority_id)
        await connection.execute(statement.values(retired_at=at, sealed_key=None))

    async def reseal(self, connection: AsyncConnection, authority_id: str, sealed_key: bytes) -> None:
        statement = update(AuthorityRow).where(col(AuthorityRow.id) == authority_id)
        await connection.execute(statement.values(sealed_key=sealed_key))

    async def shorten(self, connection: AsyncConnection, authority_id: str, not_after: datetime) -> None:
        statement = update(AuthorityRow).where(col(AuthorityRow.id) == authority_id)
        await connection.execute(statement.values(not_after=not_after))

    async def take_offline(self, connection: AsyncConnection, authority_id: str) -> None:
        """Forget the private half of the root."""
        statement = update(AuthorityRow).where(col(AuthorityRow.id) == authority_id)
        await connection.execute(statement.values(sealed_key=None))

    async def forget(self, connection: AsyncConnection, authority_id: str) -> None:
        await connection.execute(delete(AuthorityRow).where(col(AuthorityRow.id) == authority_id))

    async def needed_until(self, connection: AsyncConnection) -> dict[str, datetime]:
        """Return by issuer when the last certificate that was not revoked ends."""
        rows = await connection.execute(
            select(col(CertificateRow.issuer), func.max(col(CertificateRow.not_after)).label("ends_at"))
            .where(col(CertificateRow.revoked_at).is_(None))
            .group_by(col(CertificateRow.issuer))
        )
        return {row.issuer: row.ends_at for row in rows}

    async def adopt_certificates(self, connection: AsyncConnection, issuer: str) -> None:
        """Name the issuer of certificates from when there was only one."""
        statement = update(CertificateRow).where(col(CertificateRow.issuer) == "")
        await connection.execute(statement.values(issuer=issuer))

    async def newest_trust(self, connection: AsyncConnection) -> tuple[int, SignedTrust] | None:
        """Return the newest trust document with its version."""
        newest = select(TrustDocumentRow).order_by(col(TrustDocumentRow.version).desc()).limit(1)
        row = (await connection.execute(newest)).one_or_none()
        if row is None:
            return None
        signatures = msgspec.convert(row.signatures, list[Signature])
        return row.version, SignedTrust(document=row.document, signatures=signatures)

    async def add_trust(self, connection: AsyncConnection, version: int, trust: SignedTrust, at: datetime) -> None:
        """Raises IntegrityError when another hub has signed that version."""
        signatures = msgspec.to_builtins(trust.signatures)
        await connection.execute(
            insert(TrustDocumentRow).values(
                version=version, document=trust.document, signatures=signatures, created_at=at
            )
        )
