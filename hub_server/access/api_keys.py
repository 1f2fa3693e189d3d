"""API keys: what scripts connect with, in place of a person's access token."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal, covers
from hub_server.access.session_store import SessionStore, StoredKey
from hub_server.access.standings import Session, Standings
from hub_server.access.store import AccessStore
from hub_server.access.tokens import ApiKey, key_refused
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import Forbidden, NotFound
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.people import (
    ApiKeyReply,
    ApiKeysCreate,
    ApiKeysCreateReply,
    ApiKeysList,
    ApiKeysListReply,
    ApiKeysRevoke,
    ApiKeyView,
)

USE_NOTED_EVERY: Final = timedelta(minutes=1)
SESSION_PREFIX: Final = "key-"


class ApiKeyService:
    """A key ends with its maker's lock or removal, and when they come to be less than it; it never comes back."""

    def __init__(self, *, database: Database, clock: Clock, standings: Standings) -> None:
        self._database = database
        self._clock = clock
        self._standings = standings
        self._people = AccessStore()
        self._store = SessionStore()

    async def create(self, principal: Principal, request: ApiKeysCreate) -> ApiKeysCreateReply:
        """Raises Forbidden for a role that may do more than the maker's, and when a key asks: keys make no keys."""
        organisation_id = authorize(principal, Permission.API_KEYS_WRITE)
        if principal.api_key_id is not None:
            raise Forbidden("a key makes no other keys: sign in as a person")
        if not covers(principal.role, request.role):
            raise Forbidden(f"you cannot give the role {request.role}: it may do more than yours", path="$.role")
        key, now = ApiKey.generate(), self._clock.now()
        async with self._database.write(organisation_id) as connection:
            await self._people.hold_person(connection, principal.user_id)
            await self._store.add_key(
                connection,
                id=key.id,
                organisation_id=organisation_id,
                user_id=principal.user_id,
                name=request.name,
                role=request.role.value,
                secret_sha256=key.secret_sha256,
                created_at=now,
                created_by=principal.actor,
                expires_at=now + timedelta(seconds=request.ttl_sec),
            )
            stored = await self._store.key(connection, key.id)
            if stored is None or not _stands(stored, now):
                raise Forbidden("your rights were changed just now; sign in again")
            await record(
                connection,
                organisation_id=organisation_id,
                at=now,
                actor=principal.actor,
                action="api-keys:create",
                target=f"api-key:{key.id}",
                detail={"name": request.name, "role": request.role.value, "ttl_seconds": request.ttl_sec},
            )
        return ApiKeysCreateReply(key=_view(stored), key_text=key.text)

    async def list(self, principal: Principal, request: ApiKeysList) -> ApiKeysListReply:
        organisation_id = authorize(principal, Permission.API_KEYS_READ)
        async with self._database.read(organisation_id) as connection:
            keys, total = await self._store.keys(
                connection, organisation_id, limit=request.limit, offset=request.offset
            )
        return ApiKeysListReply(
            keys=[_view(key) for key in keys], total=total, limit=request.limit, offset=request.offset
        )

    async def revoke(self, principal: Principal, request: ApiKeysRevoke) -> ApiKeyReply:
        """End a key and its sockets. A key that has ended already stays as it is. Raises NotFound."""
        organisation_id = authorize(principal, Permission.API_KEYS_WRITE)
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            before = await self._own(connection, organisation_id, request.key_id)
            if before.revoked_at is None:
                await self._store.revoke_keys(connection, [before.id], now)
                await record(
                    connection,
                    organisation_id=organisation_id,
                    at=now,
                    actor=principal.actor,
                    action="api-keys:revoke",
                    target=f"api-key:{before.id}",
                )
            stored = await self._own(connection, organisation_id, request.key_id)
        self._standings.end_sessions({session_id_of(stored.id)})
        return ApiKeyReply(key=_view(stored))

    async def session_of(self, text: str) -> Session:
        """Raises Unauthenticated unless `text` is a key that stands and whose maker may still do what it may."""
        presented = ApiKey.parse(text)
        found = await self._found(presented)
        standing = self._standings.open(found.user_id, found.organisation_id, session_id_of(found.id), is_key=True)
        stored = await self._found(presented)  # as it is now that nothing can end unnoticed
        if not _stands(stored, self._clock.now()) or standing.is_over:
            raise key_refused()
        await self._note_used(stored)
        return Session(
            principal=Principal(
                user_id=stored.user_id,
                username=stored.username,
                organisation_id=stored.organisation_id,
                role=stored.role,
                api_key_id=stored.id,
            ),
            session_id=standing.session_id,
            expires_at=stored.expires_at,
            standing=standing,
        )

    async def standing_among(self, connection: AsyncConnection, sessions: Collection[Session]) -> set[str]:
        """Return the session ids of those keys that still stand."""
        ids = {key_id for session in sessions if (key_id := session.principal.api_key_id) is not None}
        if not ids:
            return set()
        keys = await self._store.standing_keys(connection, ids, self._clock.now())
        return {session_id_of(key.id) for key in keys if _is_covered(key)}

    async def _found(self, presented: ApiKey) -> StoredKey:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            stored = await self._store.key(connection, presented.id)
        if stored is None or not hmac.compare_digest(stored.secret_sha256, presented.secret_sha256):
            raise key_refused()
        return stored

    async def _own(self, connection: AsyncConnection, organisation_id: str, key_id: str) -> StoredKey:
        stored = await self._store.key(connection, key_id)
        if stored is None or stored.organisation_id != organisation_id:
            raise NotFound("there is no such API key", path="$.keyId")
        return stored

    async def _note_used(self, key: StoredKey) -> None:
        now = self._clock.now()
        if key.last_used_at is not None and now - key.last_used_at < USE_NOTED_EVERY:
            return
        async with self._database.write(key.organisation_id) as connection:
            await self._store.note_key_used(connection, key.id, now)


def session_id_of(key_id: str) -> str:
    return f"{SESSION_PREFIX}{key_id}"


def _is_covered(key: StoredKey) -> bool:
    return key.maker_role is not None and covers(key.maker_role, key.role)


def _stands(key: StoredKey, now: datetime) -> bool:
    return key.revoked_at is None and key.expires_at > now and _is_covered(key)


def _view(key: StoredKey) -> ApiKeyView:
    return ApiKeyView(
        id=key.id,
        name=key.name,
        role=key.role,
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )
