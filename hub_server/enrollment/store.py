"""Enrollment tokens, organisation keys and their uses, and the approval queue in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, RowMapping, Select, func, insert, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.enrollment.model import UNDECIDED, Approval, CredentialUse, StoredKey, StoredToken
from hub_server.enrollment.tables import (
    ApprovalRow,
    EnrollmentTokenRow,
    EnrollmentUseRow,
    OrganisationKeyRow,
    OrganisationKeyUseRow,
)
from hub_server.storage.upsert import upsert
from protocol.enumerations import ApprovalKind, ApprovalState


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
                needs_approval=token.needs_approval,
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
    ) -> CredentialUse | None:
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
        return CredentialUse(
            credential_id=row.token_id,
            public_key_sha256=row.public_key_sha256,
            organisation_id=row.organisation_id,
            agent_id=row.agent_id,
            certificate_serial=row.certificate_serial,
            used_at=row.used_at,
        )

    async def add_use(self, connection: AsyncConnection, organisation_id: str, use: CredentialUse) -> None:
        await connection.execute(
            insert(EnrollmentUseRow).values(
                token_id=use.credential_id,
                public_key_sha256=use.public_key_sha256,
                organisation_id=organisation_id,
                agent_id=use.agent_id,
                certificate_serial=use.certificate_serial,
                used_at=use.used_at,
            )
        )


class KeyStore:
    """Organisation keys."""

    async def add(self, connection: AsyncConnection, organisation_id: str, key: StoredKey) -> None:
        values = {**msgspec.structs.asdict(key), "organisation_id": organisation_id}
        await connection.execute(insert(OrganisationKeyRow).values(**values))

    async def find(self, connection: AsyncConnection, key_id: str, *, lock: bool = False) -> StoredKey | None:
        """Return a key by its id alone: it is the key that says which organisation somebody joins."""
        query = select(OrganisationKeyRow).where(col(OrganisationKeyRow.id) == key_id)
        row = (await connection.execute(query.with_for_update() if lock else query)).mappings().one_or_none()
        return None if row is None else StoredKey(**row)

    async def page(
        self, connection: AsyncConnection, organisation_id: str, *, limit: int, offset: int
    ) -> tuple[list[StoredKey], int]:
        """Return keys, newest first, and how many there are in all."""
        of_organisation = col(OrganisationKeyRow.organisation_id) == organisation_id
        total = await connection.scalar(select(func.count()).where(of_organisation))
        rows = await connection.execute(
            select(OrganisationKeyRow)
            .where(of_organisation)
            .order_by(col(OrganisationKeyRow.created_at).desc(), col(OrganisationKeyRow.id))
            .limit(limit)
            .offset(offset)
        )
        return [StoredKey(**row) for row in rows.mappings()], total or 0

    async def count_use(self, connection: AsyncConnection, organisation_id: str, key_id: str, now: datetime) -> bool:
        """Return False when the key expired or was revoked."""
        result = await connection.execute(
            update(OrganisationKeyRow)
            .where(
                col(OrganisationKeyRow.organisation_id) == organisation_id,
                col(OrganisationKeyRow.id) == key_id,
                col(OrganisationKeyRow.expires_at) > now,
                col(OrganisationKeyRow.revoked_at).is_(None),
            )
            .values(used=col(OrganisationKeyRow.used) + 1, last_used_at=now)
        )
        return result.rowcount == 1

    async def revoke(self, connection: AsyncConnection, organisation_id: str, key_id: str, at: datetime) -> None:
        await connection.execute(
            update(OrganisationKeyRow)
            .where(
                col(OrganisationKeyRow.organisation_id) == organisation_id,
                col(OrganisationKeyRow.id) == key_id,
                col(OrganisationKeyRow.revoked_at).is_(None),
            )
            .values(revoked_at=at)
        )

    async def use_of(
        self, connection: AsyncConnection, organisation_id: str, key_id: str, public_key_sha256: bytes
    ) -> CredentialUse | None:
        row = (
            await connection.execute(
                select(OrganisationKeyUseRow).where(
                    col(OrganisationKeyUseRow.organisation_id) == organisation_id,
                    col(OrganisationKeyUseRow.key_id) == key_id,
                    col(OrganisationKeyUseRow.public_key_sha256) == public_key_sha256,
                )
            )
        ).one_or_none()
        if row is None:
            return None
        return CredentialUse(
            credential_id=row.key_id,
            public_key_sha256=row.public_key_sha256,
            organisation_id=row.organisation_id,
            agent_id=row.agent_id,
            certificate_serial=row.certificate_serial,
            used_at=row.used_at,
        )

    async def add_use(self, connection: AsyncConnection, organisation_id: str, use: CredentialUse) -> None:
        """Write what a machine got; it takes the place of what the same key got for an agent that is gone."""
        values = {
            "key_id": use.credential_id,
            "public_key_sha256": use.public_key_sha256,
            "organisation_id": organisation_id,
            "agent_id": use.agent_id,
            "certificate_serial": use.certificate_serial,
            "used_at": use.used_at,
        }
        await upsert(connection, OrganisationKeyUseRow, ("key_id", "public_key_sha256"), [values])


class ApprovalStore:
    """The queue of machines that wait. One row a public key."""

    async def find(
        self, connection: AsyncConnection, organisation_id: str, approval_id: str, *, lock: bool = False
    ) -> Approval | None:
        query = select(ApprovalRow).where(
            col(ApprovalRow.organisation_id) == organisation_id, col(ApprovalRow.id) == approval_id
        )
        return await _only_approval(connection, query, lock=lock)

    async def of_key(
        self, connection: AsyncConnection, organisation_id: str, public_key_sha256: bytes
    ) -> Approval | None:
        """Return the row of a key, locked until the transaction ends."""
        query = select(ApprovalRow).where(
            col(ApprovalRow.organisation_id) == organisation_id,
            col(ApprovalRow.public_key_sha256) == public_key_sha256,
        )
        return await _only_approval(connection, query, lock=True)

    async def page(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        *,
        state: ApprovalState | None,
        now: datetime,
        limit: int,
        offset: int,
    ) -> tuple[list[Approval], int]:
        """Return those in `state` at `now`, oldest first, and how many there are in all."""
        matching = (col(ApprovalRow.organisation_id) == organisation_id, _stands(state, now))
        total = await connection.scalar(select(func.count()).select_from(ApprovalRow).where(*matching))
        rows = await connection.execute(
            select(ApprovalRow)
            .where(*matching)
            .order_by(col(ApprovalRow.requested_at), col(ApprovalRow.id))
            .limit(limit)
            .offset(offset)
        )
        return [_approval(row) for row in rows.mappings()], total or 0

    async def waiting_of(self, connection: AsyncConnection, organisation_id: str, agent_id: str, now: datetime) -> int:
        """Return how many recoveries of one agent wait; until the transaction ends nobody adds one."""
        if connection.dialect.name == "postgresql":
            await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(agent_id))))
        waiting = await connection.scalar(
            select(func.count())
            .select_from(ApprovalRow)
            .where(
                col(ApprovalRow.organisation_id) == organisation_id,
                col(ApprovalRow.kind) == ApprovalKind.RECOVER.value,
                col(ApprovalRow.agent_id) == agent_id,
                _stands(ApprovalState.PENDING, now),
            )
        )
        return waiting or 0

    async def add(self, connection: AsyncConnection, organisation_id: str, approval: Approval) -> bool:
        """Return False when there is a row of this key already, perhaps in another organisation."""
        dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        statement = dialect_insert(ApprovalRow).values(**_values(organisation_id, approval))
        result = await connection.execute(statement.on_conflict_do_nothing(index_elements=["public_key_sha256"]))
        return result.rowcount == 1

    async def change(
        self, connection: AsyncConnection, organisation_id: str, approval_id: str, approval: Approval
    ) -> None:
        """Write `approval` in the place of the row `approval_id`, which the transaction has locked."""
        await connection.execute(
            update(ApprovalRow)
            .where(col(ApprovalRow.organisation_id) == organisation_id, col(ApprovalRow.id) == approval_id)
            .values(**_values(organisation_id, approval))
        )


def _stands(state: ApprovalState | None, now: datetime) -> ColumnElement[bool]:
    """Return `Approval.state_at(now) is state` in SQL; None: any state."""
    stored, is_alive = col(ApprovalRow.state), col(ApprovalRow.expires_at) > now
    is_fetched = col(ApprovalRow.certificate_serial).is_not(None)
    match state:
        case None:
            return true()
        case ApprovalState.EXPIRED:
            return stored.in_([each.value for each in UNDECIDED]) & ~is_fetched & ~is_alive
        case ApprovalState.REJECTED:
            return stored == state.value
        case ApprovalState.PENDING | ApprovalState.APPROVED:
            return (stored == state.value) & or_(is_fetched, is_alive)


async def _only_approval(connection: AsyncConnection, query: Select[Any], *, lock: bool) -> Approval | None:
    row = (await connection.execute(query.with_for_update() if lock else query)).mappings().one_or_none()
    return None if row is None else _approval(row)


def _approval(row: RowMapping) -> Approval:
    fields: dict[str, Any] = dict(row)
    fields["kind"], fields["state"] = ApprovalKind(fields["kind"]), ApprovalState(fields["state"])
    return Approval(**fields)


def _values(organisation_id: str, approval: Approval) -> dict[str, Any]:
    fields = msgspec.structs.asdict(approval)
    return {
        **fields,
        "organisation_id": organisation_id,
        "kind": approval.kind.value,
        "state": approval.state.value,
    }


def _token(row: Row[EnrollmentTokenRow]) -> StoredToken:
    return StoredToken(
        id=row.id,
        organisation_id=row.organisation_id,
        secret_sha256=row.secret_sha256,
        site=row.site,
        tags=row.tags,
        uses=row.uses,
        used=row.used,
        needs_approval=row.needs_approval,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
