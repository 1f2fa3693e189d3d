"""People, memberships and refresh tokens in the database."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.access.tables import MembershipRow, OrganisationRow, RefreshTokenRow, UserRow
from hub_server.errors import Conflict
from protocol.enumerations import Role


class Account(Struct, frozen=True):
    """A person who could sign in, with the organisation they would be in."""

    principal: Principal
    password_hash: str
    is_locked: bool


class StoredRefresh(Struct, frozen=True, kw_only=True):
    id: str
    organisation_id: str
    user_id: str
    family_id: str
    secret_sha256: bytes
    expires_at: datetime
    is_used: bool
    is_revoked: bool


class AccessStore:
    async def account_by_name(self, connection: AsyncConnection, username: str) -> Account | None:
        """Return the account with the first of its organisations."""
        query = _accounts().where(col(UserRow.username) == username).order_by(col(MembershipRow.organisation_id))
        return _account((await connection.execute(query)).first())

    async def account_in(self, connection: AsyncConnection, organisation_id: str, user_id: str) -> Account | None:
        query = _accounts().where(col(UserRow.id) == user_id, col(MembershipRow.organisation_id) == organisation_id)
        return _account((await connection.execute(query)).first())

    async def add_user(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        *,
        username: str,
        password_hash: str,
        role: Role,
        at: datetime,
    ) -> str:
        """Return the new user's id. Raises Conflict when the name is taken; the transaction is void then."""
        user_id = str(uuid.uuid4())
        try:
            await connection.execute(
                insert(UserRow).values(id=user_id, username=username, password_hash=password_hash, created_at=at)
            )
        except IntegrityError as error:
            raise Conflict(f"there is already a user {username}", path="$.username") from error
        await connection.execute(
            insert(MembershipRow).values(user_id=user_id, organisation_id=organisation_id, role=role.value)
        )
        return user_id

    async def save_password(self, connection: AsyncConnection, user_id: str, password_hash: str) -> None:
        await connection.execute(update(UserRow).where(col(UserRow.id) == user_id).values(password_hash=password_hash))

    async def revoke_sign_ins(self, connection: AsyncConnection, user_id: str, at: datetime) -> None:
        """End every family of a person's refresh tokens, and with it the access tokens that name it."""
        await connection.execute(
            update(RefreshTokenRow)
            .where(col(RefreshTokenRow.user_id) == user_id, col(RefreshTokenRow.revoked_at).is_(None))
            .values(revoked_at=at)
        )

    async def oldest_organisation(self, connection: AsyncConnection) -> str | None:
        query = select(col(OrganisationRow.id)).order_by(col(OrganisationRow.created_at), col(OrganisationRow.id))
        return await connection.scalar(query.limit(1))

    async def add_organisation(self, connection: AsyncConnection, name: str, at: datetime) -> str:
        organisation_id = str(uuid.uuid4())
        try:
            await connection.execute(insert(OrganisationRow).values(id=organisation_id, name=name, created_at=at))
        except IntegrityError as error:
            raise Conflict(f"there is already an organisation {name}", path="$.name") from error
        return organisation_id

    async def add_refresh(
        self, connection: AsyncConnection, organisation_id: str, refresh: StoredRefresh, at: datetime
    ) -> None:
        await connection.execute(
            insert(RefreshTokenRow).values(
                id=refresh.id,
                organisation_id=organisation_id,
                user_id=refresh.user_id,
                family_id=refresh.family_id,
                secret_sha256=refresh.secret_sha256,
                created_at=at,
                expires_at=refresh.expires_at,
                signed_in_at=at,
            )
        )

    async def refresh_token(self, connection: AsyncConnection, refresh_id: str, *, lock: bool) -> StoredRefresh | None:
        """Return the token; `lock` keeps others from changing it until the transaction ends."""
        query = select(RefreshTokenRow).where(col(RefreshTokenRow.id) == refresh_id)
        row = (await connection.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            return None
        return StoredRefresh(
            id=row.id,
            organisation_id=row.organisation_id,
            user_id=row.user_id,
            family_id=row.family_id,
            secret_sha256=row.secret_sha256,
            expires_at=row.expires_at,
            is_used=row.used_at is not None,
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

    async def is_family_open(
        self, connection: AsyncConnection, organisation_id: str, family_id: str, now: datetime
    ) -> bool:
        """Tell whether the sign-in still stands: not signed out, not revoked, not run out."""
        query = select(col(RefreshTokenRow.id)).where(
            col(RefreshTokenRow.organisation_id) == organisation_id,
            col(RefreshTokenRow.family_id) == family_id,
            col(RefreshTokenRow.revoked_at).is_(None),
            col(RefreshTokenRow.expires_at) > now,
        )
        return await connection.scalar(query.limit(1)) is not None

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

    async def forget_expired_of(self, connection: AsyncConnection, user_id: str, now: datetime) -> None:
        await connection.execute(
            delete(RefreshTokenRow).where(
                col(RefreshTokenRow.user_id) == user_id, col(RefreshTokenRow.expires_at) <= now
            )
        )


def _accounts() -> Select[str, str, str, datetime | None, str, str]:
    return select(
        col(UserRow.id),
        col(UserRow.username),
        col(UserRow.password_hash),
        col(UserRow.locked_at),
        col(MembershipRow.organisation_id),
        col(MembershipRow.role),
    ).join(MembershipRow, col(MembershipRow.user_id) == col(UserRow.id))


def _account(row: Row[str, str, str, datetime | None, str, str] | None) -> Account | None:
    if row is None:
        return None
    user_id, username, password_hash, locked_at, organisation_id, role = row
    principal = Principal(user_id=user_id, username=username, organisation_id=organisation_id, role=Role(role))
    return Account(principal, password_hash, is_locked=locked_at is not None)
