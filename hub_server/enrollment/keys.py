"""Organisation keys (seed 004, "API key"): their text, and making, showing and revoking them.

Permission is the caller's to check.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.enrollment.model import StoredKey
from hub_server.enrollment.store import KeyStore
from hub_server.errors import NotFound
from hub_server.storage.engine import Database
from protocol.identity import SECRET_BYTES, MalformedIdentity, base62, from_base62
from protocol.joining import (
    OrganisationKeysCreate,
    OrganisationKeysCreateReply,
    OrganisationKeysList,
    OrganisationKeysListReply,
    OrganisationKeysRevoke,
    OrganisationKeysRevokeReply,
)

PREFIX: Final = "itsk"
_KEY: Final = re.compile(rf"{PREFIX}_([0-9A-Za-z]{{1,32}})\.([0-9A-Za-z]{{1,64}})")


@dataclass(frozen=True, slots=True)
class OrganisationKey:
    """`itsk_<id>.<secret>`: lets any number of machines into one organisation."""

    id: str
    secret: bytes

    @classmethod
    def generate(cls) -> OrganisationKey:
        return cls(base62(secrets.token_bytes(8)), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> OrganisationKey:
        """Raises MalformedIdentity unless `text` is exactly what `text` writes."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise MalformedIdentity(f"not an organisation key: it should look like {PREFIX}_….…; copy all of it")
        key = cls(match[1], from_base62(match[2]))
        if len(key.secret) != SECRET_BYTES or key.text != text:
            raise MalformedIdentity("the organisation key was cut or mistyped; copy all of it again")
        return key

    @property
    def text(self) -> str:
        return f"{PREFIX}_{self.id}.{base62(self.secret)}"

    @property
    def secret_sha256(self) -> bytes:
        """What the hub stores in place of the secret."""
        return hashlib.sha256(self.secret).digest()

    def __repr__(self) -> str:
        return f"OrganisationKey(id={self.id!r})"


class KeyDesk:
    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._store = KeyStore()

    async def make(
        self, organisation_id: str, actor: str, request: OrganisationKeysCreate
    ) -> OrganisationKeysCreateReply:
        """Return a new key with its secret, which is shown this once."""
        secret, now = OrganisationKey.generate(), self._clock.now()
        key = StoredKey(
            id=secret.id,
            organisation_id=organisation_id,
            name=request.name,
            secret_sha256=secret.secret_sha256,
            site=request.site,
            tags=list(dict.fromkeys(request.tags)),
            used=0,
            created_at=now,
            created_by=actor,
            expires_at=now + timedelta(seconds=request.ttl_sec),
            last_used_at=None,
            revoked_at=None,
        )
        async with self._database.write(organisation_id) as connection:
            await self._store.add(connection, organisation_id, key)
            await record(
                connection,
                organisation_id=organisation_id,
                at=now,
                actor=actor,
                action="organisation-keys:create",
                target=f"organisation-key:{key.id}",
                detail={"name": key.name, "site": key.site, "tags": key.tags, "ttl_sec": request.ttl_sec},
            )
        return OrganisationKeysCreateReply(key=key.as_view(), key_text=secret.text)

    async def page(self, organisation_id: str, request: OrganisationKeysList) -> OrganisationKeysListReply:
        async with self._database.read(organisation_id) as connection:
            keys, total = await self._store.page(
                connection, organisation_id, limit=request.limit, offset=request.offset
            )
        views = [key.as_view() for key in keys]
        return OrganisationKeysListReply(keys=views, total=total, limit=request.limit, offset=request.offset)

    async def revoke(
        self, organisation_id: str, actor: str, request: OrganisationKeysRevoke
    ) -> OrganisationKeysRevokeReply:
        """Revoke a key; once more changes nothing. Machines that registered with it stay. Raises NotFound."""
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            key = await self._store.find(connection, request.key_id, lock=True)
            if key is None or key.organisation_id != organisation_id:
                raise NotFound(f"there is no organisation key {request.key_id}", path="$.keyId")
            if key.revoked_at is None:
                await self._store.revoke(connection, organisation_id, key.id, now)
                await record(
                    connection,
                    organisation_id=organisation_id,
                    at=now,
                    actor=actor,
                    action="organisation-keys:revoke",
                    target=f"organisation-key:{key.id}",
                )
            revoked = await self._store.find(connection, key.id)
        return OrganisationKeysRevokeReply(key=(revoked or key).as_view())
