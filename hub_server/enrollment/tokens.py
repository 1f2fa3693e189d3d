"""Making, showing and revoking enrollment tokens, for whoever may: permission is the caller's to check."""

from __future__ import annotations

from datetime import timedelta

from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.enrollment.model import StoredToken
from hub_server.enrollment.store import TokenStore
from hub_server.errors import NotFound
from hub_server.storage.engine import Database
from protocol.identity import EnrollmentToken, JoinString
from protocol.joining import (
    TokensCreate,
    TokensCreateReply,
    TokensList,
    TokensListReply,
    TokensRevoke,
    TokensRevokeReply,
)


class TokenDesk:
    """`join_host` and `join_port`: where agents reach the hub. `root_pin`: what they check before they send a token."""

    def __init__(self, *, database: Database, clock: Clock, root_pin: bytes, join_host: str, join_port: int) -> None:
        self._database = database
        self._clock = clock
        self._root_pin = root_pin
        self._join_host = join_host
        self._join_port = join_port
        self._store = TokenStore()

    async def mint(self, organisation_id: str, actor: str, request: TokensCreate) -> TokensCreateReply:
        """Return a new token with its secret, which is shown this once."""
        secret, now = EnrollmentToken.generate(self._root_pin), self._clock.now()
        token = StoredToken(
            id=secret.id,
            organisation_id=organisation_id,
            secret_sha256=secret.secret_sha256,
            site=request.site,
            tags=list(dict.fromkeys(request.tags)),
            uses=request.uses,
            used=0,
            needs_approval=request.approval,
            created_at=now,
            created_by=actor,
            expires_at=now + timedelta(seconds=request.ttl_sec),
            revoked_at=None,
        )
        async with self._database.write(organisation_id) as connection:
            await self._store.add(connection, organisation_id, token)
            await record(
                connection,
                organisation_id=organisation_id,
                at=now,
                actor=actor,
                action="tokens:create",
                target=f"token:{token.id}",
                detail={
                    "site": token.site,
                    "tags": token.tags,
                    "uses": token.uses,
                    "ttl_sec": request.ttl_sec,
                    "approval": token.needs_approval,
                },
            )
        join = JoinString(self._join_host, self._join_port, secret)
        return TokensCreateReply(token=token.as_view(), token_text=secret.text, join_string=join.text)

    async def page(self, organisation_id: str, request: TokensList) -> TokensListReply:
        async with self._database.read(organisation_id) as connection:
            tokens, total = await self._store.page(
                connection, organisation_id, limit=request.limit, offset=request.offset
            )
        views = [token.as_view() for token in tokens]
        return TokensListReply(tokens=views, total=total, limit=request.limit, offset=request.offset)

    async def revoke(self, organisation_id: str, actor: str, request: TokensRevoke) -> TokensRevokeReply:
        """Revoke a token; once more changes nothing. Raises NotFound."""
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            token = await self._store.find(connection, request.token_id, lock=True)
            if token is None or token.organisation_id != organisation_id:
                raise NotFound(f"there is no enrollment token {request.token_id}", path="$.tokenId")
            if token.revoked_at is None:
                await self._store.revoke(connection, organisation_id, token.id, now)
                await record(
                    connection,
                    organisation_id=organisation_id,
                    at=now,
                    actor=actor,
                    action="tokens:revoke",
                    target=f"token:{token.id}",
                )
            revoked = await self._store.find(connection, token.id)
        return TokensRevokeReply(token=(revoked or token).as_view())
