"""Enrollment tokens and their uses in the database."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.enrollment.model import StoredToken, TokenUse
from hub_server.enrollment.tables import EnrollmentTokenRow, EnrollmentUseRow


class TokenStore:
    async def add(self, connection: AsyncConnection, organisation_id: str, token: StoredToken) -> None:
        await connection.execute(
            insert(EnrollmentTokenRow).values(
                id=token.id,
                organisation_id=organisation_id,
                secret_sha256=token.secret_sha256,
                site=token.site,
                tags=token.tags,
                uses=token.uses,
                used=token.used,
                created_at=token.created_at,
                created_by=token.created_by,
                expires_at=token.expires_at,
            )
        )

    async def find(self, connection: AsyncConnection, token_id: str, *, lock: bool = False) -> StoredToken | None:
        """Return a token by its id alone: it is the token that says which organisation somebody joins.

        `lock` keeps others from changing it until the transaction ends.
        """
        query = select(EnrollmentTokenRow).where(col(EnrollmentTokenRow.id) == token_id)
        row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
        return None if row is None else _token(row)

    async def page(
        self, connection: AsyncConnection, organisation_id: str, *, limit: int, offset: int
    ) -> tuple[list[StoredToken], int]:
        """Return tokens, newest first, and how many there are in all."""
        of_organisation = col(EnrollmentTokenRow.organisation_id) == organisation_id
        total = await connection.scalar(select(func.count()).where(of_organisation))
        rows = await connection.execute(
            select(EnrollmentTokenRow)
            .where(of_organisation)
            .order_by(col(EnrollmentTokenRow.created_at).desc(), col(EnrollmentTokenRow.id))
            .limit(limit)
            .offset(offset)
        )
        return [_token(row) for row in rows], total or 0

    async def count_use(self, connection: AsyncConnection, organisation_id: str, token_id: str, now: datetime) -> bool:
        """Burn one use; return False when the token has none left, expired, or was revoked."""
        result = await connection.execute(
            update(EnrollmentTokenRow)
            .where(
                col(EnrollmentTokenRow.organisation_id) == organisation_id,
                col(EnrollmentTokenRow.id) == token_id,
                col(EnrollmentTokenRow.used) < col(EnrollmentTokenRow.uses),
                col(EnrollmentTokenRow.expires_at) > now,
                col(EnrollmentTokenRow.revoked_at).is_(None),
            )
            .values(used=col(EnrollmentTokenRow.used) + 1)
        )
        return result.rowcount == 1

    async def revoke(self, connection: AsyncConnection, organisation_id: str, token_id: str, at: datetime) -> None:
        await connection.execute(
            update(EnrollmentTokenRow)
            .where(
                col(EnrollmentTokenRow.organisation_id) == organisation_id,
                col(EnrollmentTokenRow.id) == token_id,
                col(EnrollmentTokenRow.revoked_at).is_(None),
            )
            .values(revoked_at=at)
        )

    async def use_of(
        self, connection: AsyncConnection, organisation_id: str, token_id: str, public_key_sha256: bytes
    ) -> TokenUse | None:
        row = (
            await connection.execute(
                select(EnrollmentUseRow).where(
                    col(EnrollmentUseRow.organisation_id) == organisation_id,
                    col(EnrollmentUseRow.token_id) == token_id,
                    col(EnrollmentUseRow.public_key_sha256) == public_key_sha256,
                )
            )
        ).one_or_none()
        if row is None:
            return None
        return TokenUse(
            token_id=row.token_id,
            public_key_sha256=row.public_key_sha256,
            organisation_id=row.organisation_id,
            agent_id=row.agent_id,
            certificate_serial=row.certificate_serial,
            used_at=row.used_at,
        )

    async def add_use(self, connection: AsyncConnection, organisation_id: str, use: TokenUse) -> None:
        await connection.execute(
            insert(EnrollmentUseRow).values(
                token_id=use.token_id,
                public_key_sha256=use.public_key_sha256,
                organisation_id=organisation_id,
                agent_id=use.agent_id,
                certificate_serial=use.certificate_serial,
                used_at=use.used_at,
            )
        )


def _token(row: Row[EnrollmentTokenRow]) -> StoredToken:
    return StoredToken(
        id=row.id,
        organisation_id=row.organisation_id,
        secret_sha256=row.secret_sha256,
        site=row.site,
        tags=row.tags,
        uses=row.uses,
        used=row.used,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
