"""What an open session stands on, in the database: families of refresh tokens, and API keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.tables import ApiKeyRow, MembershipRow, RefreshTokenRow, UserRow
from protocol.enumerations import Role


class StoredRefresh(Struct, frozen=True, kw_only=True):
    id: str
    organisation_id: str
    user_id: str
    family_id: str
    secret_sha256: bytes
    expires_at: datetime
    signed_in_at: datetime
    has_second_factor: bool
    used_at: datetime | None = None
    is_revoked: bool = False


class SignIn(Struct, frozen=True, kw_only=True):
    """A family of refresh tokens that still stands."""

    id: str
    signed_in_at: datetime
    last_used_at: datetime
    expires_at: datetime


class StoredKey(Struct, frozen=True, kw_only=True):
    """An API key; `maker_role`: what its maker is now, None when they may not sign in to its organisation any more."""

    id: str
    organisation_id: str
    user_id: str
    username: str
    name: str
    role: Role
    secret_sha256: bytes
    created_at: datetime
    created_by: str
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    maker_role: Role | None


class SessionStore:
    async def add_refresh(self, connection: AsyncConnection, refresh: StoredRefresh, at: datetime) -> None:
        await connection.execute(
            insert(RefreshTokenRow).values(
                id=refresh.id,
                organisation_id=refresh.organisation_id,
                user_id=refresh.user_id,
                family_id=refresh.family_id,
                secret_sha256=refresh.secret_sha256,
                created_at=at,
                expires_at=refresh.expires_at,
                signed_in_at=refresh.signed_in_at,
                has_second_factor=refresh.has_second_factor,
            )
        )

    async def refresh_token(self, connection: AsyncConnection, refresh_id: str) -> StoredRefresh | None:
        query = select(RefreshTokenRow).where(col(RefreshTokenRow.id) == refresh_id)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        return StoredRefresh(
            id=row.id,
            organisation_id=row.organisation_id,
            user_id=row.user_id,
            family_id=row.family_id,
            secret_sha256=row.secret_sha256,
            expires_at=row.expires_at,
            signed_in_at=row.signed_in_at,
            has_second_factor=row.has_second_factor,
            used_at=row.used_at,
            is_revoked=row.revoked_at is not None,
        )

    async def burn_refresh(
        self, connection: AsyncConnection, organisation_id: str, refresh_id: str, at: datetime
    ) -> None:
        await connection.execute(
            update(RefreshTokenRow)
            .where(col(RefreshTokenRow.organisation_id) == organisation_id, col(RefreshTokenRow.id) == refresh_id)
            .values(used_at=at)
        )

    async def is_used_later(self, connection: AsyncConnection, refresh: StoredRefresh) -> bool:
        """Tell whether another token of the family was used at or after the time at which this one was used first."""
        query = select(col(RefreshTokenRow.id)).where(
            col(RefreshTokenRow.organisation_id) == refresh.organisation_id,
            col(RefreshTokenRow.family_id) == refresh.family_id,
            col(RefreshTokenRow.id) != refresh.id,
            col(RefreshTokenRow.used_at) >= refresh.used_at,
        )
        return await connection.scalar(query.limit(1)) is not None

    async def revoke_unspent(
        self, connection: AsyncConnection, organisation_id: str, family_id: str, at: datetime
    ) -> None:
        """End the token that a family would go on with; the family stands by those that were used."""
        await connection.execute(
            update(RefreshTokenRow)
            .where(
                col(RefreshTokenRow.organisation_id) == organisation_id,
                col(RefreshTokenRow.family_id) == family_id,
                col(RefreshTokenRow.used_at).is_(None),
                col(RefreshTokenRow.revoked_at).is_(None),
            )
            .values(revoked_at=at)
        )

    async def revoke_family(
        self, connection: AsyncConnection, organisation_id: str, family_id: str, at: datetime
    ) -> None:
        await connection.execute(
            update(RefreshTokenRow)
            .where(
                col(RefreshTokenRow.organisation_id) == organisation_id,
                col(RefreshTokenRow.family_id) == family_id,
                col(RefreshTokenRow.revoked_at).is_(None),
            )
            .values(revoked_at=at)
        )

    async def revoke_sign_ins(
        self,
        connection: AsyncConnection,
        user_id: str,
        at: datetime,
        *,
        organisation_id: str | None = None,
        but_family: str | None = None,
    ) -> None:
        """End a person's families of refresh tokens, in one organisation or in all, and the access tokens with them."""
        statement = update(RefreshTokenRow).where(
            col(RefreshTokenRow.user_id) == user_id, col(RefreshTokenRow.revoked_at).is_(None)
        )
        if organisation_id is not None:
            statement = statement.where(col(RefreshTokenRow.organisation_id) == organisation_id)
        if but_family is not None:
            statement = statement.where(col(RefreshTokenRow.family_id) != but_family)
        await connection.execute(statement.values(revoked_at=at))

    async def note_second_factor(self, connection: AsyncConnection, organisation_id: str, family_id: str) -> None:
        """The person of this sign-in has proved a second factor after it began."""
        await connection.execute(
            update(RefreshTokenRow)
            .where(col(RefreshTokenRow.organisation_id) == organisation_id, col(RefreshTokenRow.family_id) == family_id)
            .values(has_second_factor=True)
        )

    async def second_factor_of(
        self, connection: AsyncConnection, organisation_id: str, family_id: str, now: datetime
    ) -> bool | None:
        """Tell whether a sign-in had a second factor; None when it is signed out, revoked or run out."""
        query = select(col(RefreshTokenRow.has_second_factor)).where(
            col(RefreshTokenRow.organisation_id) == organisation_id,
            col(RefreshTokenRow.family_id) == family_id,
            col(RefreshTokenRow.revoked_at).is_(None),
            col(RefreshTokenRow.expires_at) > now,
        )
        return await connection.scalar(query.limit(1))

    async def standing(
        self, connection: AsyncConnection, family_ids: Collection[str], now: datetime
    ) -> set[tuple[str, Role]]:
        """Return those sign-ins that still stand, each with the role its person has now."""
        query = (
            select(col(RefreshTokenRow.family_id), col(MembershipRow.role))
            .join(UserRow, col(UserRow.id) == col(RefreshTokenRow.user_id))
            .join(
                MembershipRow,
                (col(MembershipRow.user_id) == col(RefreshTokenRow.user_id))
                & (col(MembershipRow.organisation_id) == col(RefreshTokenRow.organisation_id)),
            )
            .where(
                col(RefreshTokenRow.family_id).in_(family_ids),
                col(RefreshTokenRow.revoked_at).is_(None),
                col(RefreshTokenRow.expires_at) > now,
                col(UserRow.locked_at).is_(None),
            )
            .distinct()
        )
        return {(family_id, Role(role)) for family_id, role in await connection.execute(query)}

    async def open_sign_ins(self, connection: AsyncConnection, user_id: str, now: datetime) -> Sequence[SignIn]:
        """Return a person's sign-ins that still stand, in all organisations, newest first."""
        began = func.min(col(RefreshTokenRow.signed_in_at))
        query = (
            select(
                col(RefreshTokenRow.family_id),
                began.label("signed_in_at"),
                func.max(col(RefreshTokenRow.created_at)).label("last_used_at"),
                func.max(col(RefreshTokenRow.expires_at)).label("expires_at"),
            )
            .where(
                col(RefreshTokenRow.user_id) == user_id,
                col(RefreshTokenRow.revoked_at).is_(None),
                col(RefreshTokenRow.expires_at) > now,
            )
            .group_by(col(RefreshTokenRow.family_id))
            .order_by(began.desc())
        )
        return [
            SignIn(
                id=row.family_id,
                signed_in_at=row.signed_in_at,
                last_used_at=row.last_used_at,
                expires_at=row.expires_at,
            )
            for row in await connection.execute(query)
        ]

    async def forget_expired_of(self, connection: AsyncConnection, user_id: str, now: datetime) -> None:
        await connection.execute(
            delete(RefreshTokenRow).where(
                col(RefreshTokenRow.user_id) == user_id, col(RefreshTokenRow.expires_at) <= now
            )
        )

    # API keys.

    async def add_key(self, connection: AsyncConnection, **values: Any) -> None:
        await connection.execute(insert(ApiKeyRow).values(**values))

    async def key(self, connection: AsyncConnection, key_id: str) -> StoredKey | None:
        row = (await connection.execute(_keys().where(col(ApiKeyRow.id) == key_id))).first()
        return None if row is None else _key(row)

    async def keys(
        self, connection: AsyncConnection, organisation_id: str, *, limit: int, offset: int
    ) -> tuple[Sequence[StoredKey], int]:
        """Return a page of an organisation's keys, newest first, and how many there are."""
        own = col(ApiKeyRow.organisation_id) == organisation_id
        total = await connection.scalar(select(func.count()).select_from(ApiKeyRow).where(own))
        query = _keys().where(own).order_by(col(ApiKeyRow.created_at).desc(), col(ApiKeyRow.id))
        rows = await connection.execute(query.limit(limit).offset(offset))
        return [_key(row) for row in rows], total or 0

    async def keys_of(self, connection: AsyncConnection, user_id: str, now: datetime) -> Sequence[StoredKey]:
        """Return a person's keys that are not revoked and have not run out."""
        query = _keys().where(
            col(ApiKeyRow.user_id) == user_id, col(ApiKeyRow.revoked_at).is_(None), col(ApiKeyRow.expires_at) > now
        )
        return [_key(row) for row in await connection.execute(query)]

    async def revoke_keys(self, connection: AsyncConnection, key_ids: Collection[str], at: datetime) -> None:
        statement = update(ApiKeyRow).where(col(ApiKeyRow.id).in_(key_ids), col(ApiKeyRow.revoked_at).is_(None))
        await connection.execute(statement.values(revoked_at=at))

    async def note_key_used(self, connection: AsyncConnection, key_id: str, at: datetime) -> None:
        await connection.execute(update(ApiKeyRow).where(col(ApiKeyRow.id) == key_id).values(last_used_at=at))

    async def standing_keys(
        self, connection: AsyncConnection, key_ids: Collection[str], now: datetime
    ) -> Sequence[StoredKey]:
        """Return those of these keys that are not revoked and have not run out."""
        query = _keys().where(
            col(ApiKeyRow.id).in_(key_ids), col(ApiKeyRow.revoked_at).is_(None), col(ApiKeyRow.expires_at) > now
        )
        return [_key(row) for row in await connection.execute(query)]


def _keys() -> Select[*tuple[Any, ...]]:
    """Keys with their makers: `maker_role` is null when the maker is locked or no member any more."""
    is_member = (
        (col(MembershipRow.user_id) == col(ApiKeyRow.user_id))
        & (col(MembershipRow.organisation_id) == col(ApiKeyRow.organisation_id))
        & col(UserRow.locked_at).is_(None)
    )
    return (
        select(ApiKeyRow, col(UserRow.username), col(MembershipRow.role).label("maker_role"))
        .join(UserRow, col(UserRow.id) == col(ApiKeyRow.user_id))
        .outerjoin(MembershipRow, is_member)
    )


def _key(row: Row[*tuple[Any, ...]]) -> StoredKey:
    return StoredKey(
        id=row.id,
        organisation_id=row.organisation_id,
        user_id=row.user_id,
        username=row.username,
        name=row.name,
        role=Role(row.role),
        secret_sha256=row.secret_sha256,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        maker_role=None if row.maker_role is None else Role(row.maker_role),
    )
