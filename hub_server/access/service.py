"""Signing in and staying signed in.

A sign-in starts a family of refresh tokens. Each is good once and gives the next; one that comes back after it was used
was copied, so the whole family ends. Access tokens name their family and end with it.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.limits import AttemptLimits, network_of
from hub_server.access.model import Principal
from hub_server.access.passwords import Passwords, check_strength
from hub_server.access.store import AccessStore, StoredRefresh
from hub_server.access.tokens import AccessTokens, RefreshToken, expiry_of, signed_out
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enrollment import SignInRequest
from protocol.enumerations import Role

DEFAULT_ORGANISATION: Final = "default"
BAD_NAME_ATTEMPTS: Final = 20  # more than an address may have, so that a stranger does not lock a person out at once
log = structlog.get_logger(component="access")


class SignedIn(Struct, frozen=True, kw_only=True):
    """What a person holds after signing in. `refresh_token` goes into a cookie and nowhere else."""

    access_token: str
    expires_in_seconds: int
    refresh_token: str
    refresh_expires_at: datetime


class Session(Struct, frozen=True, kw_only=True):
    """Who an access token speaks for, in which sign-in, and until when."""

    principal: Principal
    session_id: str
    expires_at: datetime


class AccessService:
    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        jwt_key: Ed25519PrivateKey,
        passwords: Passwords | None = None,
        access_token_seconds: int = 600,
        refresh_days: int = 14,
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords or Passwords()
        self._tokens = AccessTokens(jwt_key, clock, access_token_seconds)
        self._refresh_lifetime = timedelta(days=refresh_days)
        self._store = AccessStore()
        self._by_address = AttemptLimits(clock)
        self._by_name = AttemptLimits(clock, bad_allowed=BAD_NAME_ATTEMPTS)

    async def sign_in(self, request: SignInRequest, address: str) -> SignedIn:
        """`address`: of the person's machine. Raises Unauthenticated, or RateLimited."""
        username, network = normalised(request.username), network_of(address)
        self._by_address.check(network)
        self._by_name.spend(username)
        self._by_address.spend(network)
        async with self._database.read(EVERY_ORGANISATION) as connection:
            account = await self._store.account_by_name(connection, username)
        matches = await self._passwords.matches(None if account is None else account.password_hash, request.password)
        if account is None or not matches or account.is_locked:
            self._by_address.note_bad(network)
            self._by_name.note_bad(username)
            log.info("sign-in refused", address=address, is_known=account is not None)
            raise Unauthenticated("the user name or the password is wrong, or the user is locked")
        self._by_address.give_back(network)
        self._by_name.give_back(username)
        family_id, now = str(uuid.uuid4()), self._clock.now()
        async with self._database.write(account.principal.organisation_id) as connection:
            await self._store.forget_expired_of(connection, account.principal.user_id, now)
            signed_in = await self._continued(connection, account.principal, family_id)
            await self._record(connection, account.principal, "auth:sign-in", family_id)
        return signed_in

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Burn the token and return what replaces it. Raises Unauthenticated."""
        presented = await self._genuine(refresh_token)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            signed_in = await self._refreshed(connection, presented)
        if signed_in is None:
            raise signed_out()
        return signed_in

    async def sign_out(self, refresh_token: str) -> None:
        """End the sign-in of this token, whether it is the newest of its family or not. Raises Unauthenticated."""
        presented = await self._genuine(refresh_token)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            stored = await self._matching(connection, presented, lock=True)
            if stored is None or stored.is_revoked:
                return
            await self._end(connection, stored, "auth:sign-out")

    async def session_of(self, access_token: str) -> Session:
        """Raises Unauthenticated unless the token is good, and its person may still be signed in."""
        claims = self._tokens.read(access_token)
        now = self._clock.now()
        async with self._database.read(claims.org) as connection:
            account = await self._store.account_in(connection, claims.org, claims.sub)
            is_open = await self._store.is_family_open(connection, claims.org, claims.sid, now)
        if account is None or account.is_locked or not is_open or account.principal.role is not claims.role:
            raise signed_out()
        return Session(principal=account.principal, session_id=claims.sid, expires_at=expiry_of(claims, now))

    async def ended_of(self, sessions: Collection[Session]) -> set[str]:
        """Return the ids of those sign-ins that ended since: signed out, copied, locked, or with another role."""
        if not sessions:
            return set()
        async with self._database.read(EVERY_ORGANISATION) as connection:
            standing = await self._store.standing(
                connection, {session.session_id for session in sessions}, self._clock.now()
            )
        return {
            session.session_id for session in sessions if (session.session_id, session.principal.role) not in standing
        }

    async def principal_of(self, access_token: str) -> Principal:
        """Raises as session_of does."""
        return (await self.session_of(access_token)).principal

    async def create_user(
        self, *, organisation_id: str, username: str, password: str, role: Role, actor: str = "hub"
    ) -> str:
        """Return the new user's id. Raises InvalidRequest for a weak password, Conflict for a name that is taken."""
        name = normalised(username)
        if not 0 < len(name) <= 128 or not name.isprintable():
            raise InvalidRequest("the user name needs 1 to 128 printable characters", path="$.username")
        check_strength(password, name)
        password_hash = await self._passwords.hash(password)
        now = self._clock.now()
        async with self._database.write(organisation_id) as connection:
            user_id = await self._store.add_user(
                connection, organisation_id, username=name, password_hash=password_hash, role=role, at=now
            )
            await record(
                connection,
                organisation_id=organisation_id,
                at=now,
                actor=actor,
                action="users:create",
                target=f"user:{name}",
                detail={"role": role.value},
            )
        return user_id

    async def set_password(self, username: str, password: str, *, actor: str = "hub") -> None:
        """Give a person a new password and end all their sign-ins. Raises NotFound; InvalidRequest for a weak one."""
        name = normalised(username)
        check_strength(password, name)
        password_hash = await self._passwords.hash(password)
        now = self._clock.now()
        async with self._database.write(EVERY_ORGANISATION) as connection:
            account = await self._store.account_by_name(connection, name)
            if account is None:
                raise NotFound(f"there is no user {name!r}", path="$.username")
            person = account.principal
            await self._store.save_password(connection, person.user_id, password_hash)
            await self._store.revoke_sign_ins(connection, person.user_id, now)
            await record(
                connection,
                organisation_id=person.organisation_id,
                at=now,
                actor=actor,
                action="users:password",
                target=f"user:{name}",
            )

    async def default_organisation(self) -> str | None:
        """Return the oldest organisation of this hub, None before the first start."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            return await self._store.oldest_organisation(connection)

    async def ensure_default_organisation(self) -> str:
        """Return the oldest organisation of this hub, made now where there is none."""
        if (existing := await self.default_organisation()) is not None:
            return existing
        try:
            async with self._database.write(EVERY_ORGANISATION) as connection:
                existing = await self._store.oldest_organisation(connection)
                now = self._clock.now()
                return existing or await self._store.add_organisation(connection, DEFAULT_ORGANISATION, now)
        except Conflict:  # another hub on this database was faster
            async with self._database.read(EVERY_ORGANISATION) as connection:
                existing = await self._store.oldest_organisation(connection)
            if existing is None:
                raise
            return existing

    async def _refreshed(self, connection: AsyncConnection, presented: RefreshToken) -> SignedIn | None:
        """Return None for a token that is good no more; what that means for its family is written, too."""
        stored = await self._matching(connection, presented, lock=True)
        now = self._clock.now()
        if stored is None or stored.is_revoked or stored.expires_at <= now:
            return None
        if stored.is_used:
            log.warning("refresh token used twice; the sign-in is ended", session_id=stored.family_id)
            await self._end(connection, stored, "auth:refresh-reused")
            return None
        account = await self._store.account_in(connection, stored.organisation_id, stored.user_id)
        if account is None or account.is_locked:
            return None
        await self._store.burn_refresh(connection, stored.organisation_id, stored.id, now)
        return await self._continued(connection, account.principal, stored.family_id)

    async def _genuine(self, text: str) -> RefreshToken:
        """Raises Unauthenticated, without a wait for the writer, for what this hub never gave."""
        presented = RefreshToken.parse(text)
        async with self._database.read(EVERY_ORGANISATION) as connection:
            if await self._matching(connection, presented) is None:
                raise signed_out()
        return presented

    async def _matching(
        self, connection: AsyncConnection, presented: RefreshToken, *, lock: bool = False
    ) -> StoredRefresh | None:
        stored = await self._store.refresh_token(connection, presented.id, lock=lock)
        if stored is None or not hmac.compare_digest(stored.secret_sha256, presented.secret_sha256):
            return None
        return stored

    async def _continued(self, connection: AsyncConnection, principal: Principal, family_id: str) -> SignedIn:
        token, now = RefreshToken.generate(), self._clock.now()
        stored = StoredRefresh(
            id=token.id,
            organisation_id=principal.organisation_id,
            user_id=principal.user_id,
            family_id=family_id,
            secret_sha256=token.secret_sha256,
            expires_at=now + self._refresh_lifetime,
            is_used=False,
            is_revoked=False,
        )
        await self._store.add_refresh(connection, principal.organisation_id, stored, now)
        access_token = self._tokens.issue(
            user_id=principal.user_id,
            organisation_id=principal.organisation_id,
            role=principal.role,
            session_id=family_id,
        )
        return SignedIn(
            access_token=access_token,
            expires_in_seconds=self._tokens.lifetime_seconds,
            refresh_token=token.text,
            refresh_expires_at=stored.expires_at,
        )

    async def _end(self, connection: AsyncConnection, stored: StoredRefresh, action: str) -> None:
        await self._store.revoke_family(connection, stored.organisation_id, stored.family_id, self._clock.now())
        account = await self._store.account_in(connection, stored.organisation_id, stored.user_id)
        if account is not None:
            await self._record(connection, account.principal, action, stored.family_id)

    async def _record(self, connection: AsyncConnection, principal: Principal, action: str, family_id: str) -> None:
        await record(
            connection,
            organisation_id=principal.organisation_id,
            at=self._clock.now(),
            actor=principal.actor,
            action=action,
            target=f"session:{family_id}",
        )


def normalised(username: str) -> str:
    """Return a user name as it is stored and compared: without surrounding space, in lower case."""
    return username.strip().casefold()
