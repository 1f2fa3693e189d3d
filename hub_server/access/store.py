"""People, their memberships and their second factors in the database."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.access.tables import (
    MembershipRow,
    OrganisationRow,
    RecoveryCodeRow,
    RefreshTokenRow,
    UserRow,
)
from hub_server.errors import Conflict
from protocol.enumerations import Role


class Account(Struct, frozen=True, kw_only=True):
    """A person in one of their organisations. `totp_sealed` counts once `totp_confirmed_at` is set."""

    user_id: str
    username: str
    organisation_id: str
    role: Role
    password_hash: str
    password_changed_at: datetime | None
    is_locked: bool
    totp_sealed: bytes | None
    totp_confirmed_at: datetime | None
    totp_last_step: int

    @property
    def has_totp(self) -> bool:
        return self.totp_confirmed_at is not None

    def principal(self, *, is_limited: bool = False) -> Principal:
        return Principal(
            user_id=self.user_id,
            username=self.username,
            organisation_id=self.organisation_id,
            role=self.role,
            is_limited=is_limited,
        )


class Membership(Struct, frozen=True, kw_only=True):
    organisation_id: str
    organisation: str
    role: Role


class Member(Struct, frozen=True, kw_only=True):
    """A person as the administrators of an organisation see them. `is_elsewhere`: also a member of others."""

    user_id: str
    username: str
    role: Role
    has_totp: bool
    is_elsewhere: bool
    created_at: datetime
    locked_at: datetime | None
    last_sign_in_at: datetime | None


class AccessStore:
    async def account_by_name(
        self, connection: AsyncConnection, username: str, organisation: str | None = None
    ) -> Account | None:
        """Return the account in the organisation of this name or id, without one in the oldest of its organisations."""
        query = _accounts().where(col(UserRow.username) == username)
        if organisation is not None:
            query = query.where((col(OrganisationRow.name) == organisation) | (col(OrganisationRow.id) == organisation))
        query = query.order_by(col(OrganisationRow.created_at), col(OrganisationRow.id))
        return _account((await connection.execute(query)).first())

    async def account_in(self, connection: AsyncConnection, organisation_id: str, user_id: str) -> Account | None:
        query = _accounts().where(col(UserRow.id) == user_id, col(MembershipRow.organisation_id) == organisation_id)
        return _account((await connection.execute(query)).first())

    async def hold_person(self, connection: AsyncConnection, user_id: str) -> None:
        """Keep others from changing this person, and from beginning or ending their sign-ins, until the end.

        Taken after the organisation's memberships where both are held, and before any row of a sign-in.
        """
        query = select(col(UserRow.id)).where(col(UserRow.id) == user_id)
        await connection.execute(query.with_for_update(key_share=True))

    async def user_id_of(self, connection: AsyncConnection, username: str) -> str | None:
        return await connection.scalar(select(col(UserRow.id)).where(col(UserRow.username) == username))

    async def memberships(self, connection: AsyncConnection, user_id: str) -> list[Membership]:
        """Return in which organisations a person is, oldest first."""
        query = (
            select(col(OrganisationRow.id), col(OrganisationRow.name), col(MembershipRow.role))
            .join(MembershipRow, col(MembershipRow.organisation_id) == col(OrganisationRow.id))
            .where(col(MembershipRow.user_id) == user_id)
            .order_by(col(OrganisationRow.created_at), col(OrganisationRow.id))
        )
        rows = await connection.execute(query)
        return [Membership(organisation_id=row[0], organisation=row[1], role=Role(row[2])) for row in rows]

    # People of one organisation.

    async def members(
        self, connection: AsyncConnection, organisation_id: str, *, limit: int, offset: int
    ) -> tuple[Sequence[Member], int]:
        """Return a page by name, and how many there are."""
        everybody = col(MembershipRow.organisation_id) == organisation_id
        total = await connection.scalar(select(func.count()).select_from(MembershipRow).where(everybody))
        query = _members(organisation_id).order_by(col(UserRow.username)).limit(limit).offset(offset)
        return [_member(row) for row in await connection.execute(query)], total or 0

    async def member(self, connection: AsyncConnection, organisation_id: str, user_id: str) -> Member | None:
        row = (await connection.execute(_members(organisation_id).where(col(UserRow.id) == user_id))).first()
        return None if row is None else _member(row)

    async def hold_members(self, connection: AsyncConnection, organisation_id: str) -> None:
        """Keep others from changing who is what in this organisation until the transaction ends."""
        query = select(col(OrganisationRow.id)).where(col(OrganisationRow.id) == organisation_id)
        await connection.execute(query.with_for_update(key_share=True))

    async def has_other_admin(self, connection: AsyncConnection, organisation_id: str, user_id: str) -> bool:
        """Tell whether somebody else is an unlocked org-admin here."""
        query = (
            select(col(UserRow.id))
            .join(MembershipRow, col(MembershipRow.user_id) == col(UserRow.id))
            .where(
                col(MembershipRow.organisation_id) == organisation_id,
                col(MembershipRow.role) == Role.ORG_ADMIN.value,
                col(UserRow.id) != user_id,
                col(UserRow.locked_at).is_(None),
            )
        )
        return await connection.scalar(query.limit(1)) is not None

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
                insert(UserRow).values(
                    id=user_id,
                    username=username,
                    password_hash=password_hash,
                    created_at=at,
                    password_changed_at=at,
                    totp_last_step=0,
                )
            )
        except IntegrityError as error:
            raise Conflict(f"there is already a user {username}", path="$.username") from error
        await self.add_membership(connection, organisation_id, user_id, role)
        return user_id

    async def add_membership(self, connection: AsyncConnection, organisation_id: str, user_id: str, role: Role) -> None:
        await connection.execute(
            insert(MembershipRow).values(user_id=user_id, organisation_id=organisation_id, role=role.value)
        )

    async def save_role(self, connection: AsyncConnection, organisation_id: str, user_id: str, role: Role) -> None:
        statement = update(MembershipRow).where(*_membership(organisation_id, user_id))
        await connection.execute(statement.values(role=role.value))

    async def remove_member(self, connection: AsyncConnection, organisation_id: str, user_id: str) -> None:
        """Take a person out of the organisation; who is in none any more is forgotten."""
        await connection.execute(delete(MembershipRow).where(*_membership(organisation_id, user_id)))
        elsewhere = select(col(MembershipRow.user_id)).where(col(MembershipRow.user_id) == user_id)
        await connection.execute(delete(UserRow).where(col(UserRow.id) == user_id, ~elsewhere.exists()))

    async def save_password(self, connection: AsyncConnection, user_id: str, password_hash: str, at: datetime) -> None:
        await self._update_user(connection, user_id, password_hash=password_hash, password_changed_at=at)

    async def save_lock(self, connection: AsyncConnection, user_id: str, locked_at: datetime | None) -> None:
        await self._update_user(connection, user_id, locked_at=locked_at)

    # Second factors.

    async def save_pending_totp(self, connection: AsyncConnection, user_id: str, sealed: bytes) -> bool:
        """Keep a secret until it is confirmed. Return False when one that is confirmed is there already."""
        statement = update(UserRow).where(col(UserRow.id) == user_id, col(UserRow.totp_confirmed_at).is_(None))
        return (await connection.execute(statement.values(totp_sealed=sealed))).rowcount == 1

    async def confirm_totp(
        self, connection: AsyncConnection, user_id: str, sealed: bytes, at: datetime, step: int
    ) -> bool:
        """Let the pending secret count from now on. Return False when another took its place."""
        statement = update(UserRow).where(
            col(UserRow.id) == user_id, col(UserRow.totp_confirmed_at).is_(None), col(UserRow.totp_sealed) == sealed
        )
        values = {"totp_confirmed_at": at, "totp_last_step": step}
        return (await connection.execute(statement.values(**values))).rowcount == 1

    async def clear_totp(self, connection: AsyncConnection, user_id: str) -> None:
        await self._update_user(connection, user_id, totp_sealed=None, totp_confirmed_at=None, totp_last_step=0)
        await self.replace_recovery_codes(connection, user_id, ())

    async def spend_step(self, connection: AsyncConnection, user_id: str, step: int) -> bool:
        """Burn the codes up to `step`. Return False when that has been done."""
        statement = update(UserRow).where(col(UserRow.id) == user_id, col(UserRow.totp_last_step) < step)
        return (await connection.execute(statement.values(totp_last_step=step))).rowcount == 1

    async def replace_recovery_codes(
        self, connection: AsyncConnection, user_id: str, digests: Collection[bytes]
    ) -> None:
        await connection.execute(delete(RecoveryCodeRow).where(col(RecoveryCodeRow.user_id) == user_id))
        if digests:
            rows = [{"user_id": user_id, "code_sha256": digest} for digest in digests]
            await connection.execute(insert(RecoveryCodeRow), rows)

    async def spend_recovery_code(self, connection: AsyncConnection, user_id: str, digest: bytes, at: datetime) -> bool:
        statement = update(RecoveryCodeRow).where(
            col(RecoveryCodeRow.user_id) == user_id,
            col(RecoveryCodeRow.code_sha256) == digest,
            col(RecoveryCodeRow.used_at).is_(None),
        )
        return (await connection.execute(statement.values(used_at=at))).rowcount == 1

    async def recovery_codes_left(self, connection: AsyncConnection, user_id: str) -> int:
        query = select(func.count()).select_from(RecoveryCodeRow)
        unused = (col(RecoveryCodeRow.user_id) == user_id, col(RecoveryCodeRow.used_at).is_(None))
        return await connection.scalar(query.where(*unused)) or 0

    # The hub's first organisation.

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

    async def _update_user(self, connection: AsyncConnection, user_id: str, **values: Any) -> None:
        await connection.execute(update(UserRow).where(col(UserRow.id) == user_id).values(**values))


def _membership(organisation_id: str, user_id: str) -> tuple[Any, Any]:
    return col(MembershipRow.organisation_id) == organisation_id, col(MembershipRow.user_id) == user_id


def _accounts() -> Select[*tuple[Any, ...]]:
    return (
        select(
            col(UserRow.id),
            col(UserRow.username),
            col(UserRow.password_hash),
            col(UserRow.password_changed_at),
            col(UserRow.locked_at),
            col(UserRow.totp_sealed),
            col(UserRow.totp_confirmed_at),
            col(UserRow.totp_last_step),
            col(MembershipRow.organisation_id),
            col(MembershipRow.role),
        )
        .join(MembershipRow, col(MembershipRow.user_id) == col(UserRow.id))
        .join(OrganisationRow, col(OrganisationRow.id) == col(MembershipRow.organisation_id))
    )


def _account(row: Row[*tuple[Any, ...]] | None) -> Account | None:
    if row is None:
        return None
    return Account(
        user_id=row.id,
        username=row.username,
        organisation_id=row.organisation_id,
        role=Role(row.role),
        password_hash=row.password_hash,
        password_changed_at=row.password_changed_at,
        is_locked=row.locked_at is not None,
        totp_sealed=row.totp_sealed,
        totp_confirmed_at=row.totp_confirmed_at,
        totp_last_step=row.totp_last_step,
    )


def _members(organisation_id: str) -> Select[*tuple[Any, ...]]:
    elsewhere = MembershipRow.__table__.alias()  # type: ignore[attr-defined]  # SQLModel hides its table
    signed_in_at = (
        select(func.max(col(RefreshTokenRow.signed_in_at)))
        .where(col(RefreshTokenRow.user_id) == col(UserRow.id), col(RefreshTokenRow.organisation_id) == organisation_id)
        .scalar_subquery()
    )
    others = select(elsewhere.c.user_id).where(
        elsewhere.c.user_id == col(UserRow.id), elsewhere.c.organisation_id != organisation_id
    )
    return (
        select(
            col(UserRow.id),
            col(UserRow.username),
            col(MembershipRow.role),
            col(UserRow.totp_confirmed_at),
            others.exists().label("is_elsewhere"),
            col(UserRow.created_at),
            col(UserRow.locked_at),
            signed_in_at.label("last_sign_in_at"),
        )
        .join(MembershipRow, col(MembershipRow.user_id) == col(UserRow.id))
        .where(col(MembershipRow.organisation_id) == organisation_id)
    )


def _member(row: Row[*tuple[Any, ...]]) -> Member:
    return Member(
        user_id=row.id,
        username=row.username,
        role=Role(row.role),
        has_totp=row.totp_confirmed_at is not None,
        is_elsewhere=bool(row.is_elsewhere),
        created_at=row.created_at,
        locked_at=row.locked_at,
        last_sign_in_at=row.last_sign_in_at,
    )
