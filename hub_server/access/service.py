"""Signing in and staying signed in.

A sign-in starts a family of refresh tokens. Each is good once and gives the next. One whose answer was lost is good
again for a moment: what that answer gave is revoked, and another next one is given. Otherwise a token that comes back
after it was used or revoked was copied, so the whole family ends: a thief and the owner cannot both go on. Access
tokens name their family and end with it.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.api_keys import ApiKeyService
from hub_server.access.credentials import Credentials, Factor
from hub_server.access.limits import AttemptLimits, network_of
from hub_server.access.model import Principal, normalised, runs_commands
from hub_server.access.session_store import SessionStore, StoredRefresh
from hub_server.access.standings import Session, Standings
from hub_server.access.store import AccessStore, Account
from hub_server.access.tokens import API_KEY_PREFIX, AccessTokens, RefreshToken, expiry_of, signed_out
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import OtpRequired, Unauthenticated
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enrollment import SignInRequest

REFRESHES_AT_ONCE: Final = 20
REFRESHES_PER_SECOND: Final = 5.0
BAD_REFRESHES: Final = 60  # in ten minutes: a whole office shares an address
LOST_ANSWER_SECONDS: Final = 30.0
"""How long a refresh token counts once more after its first use: a page that reloads does not hear the answer."""
log = structlog.get_logger(component="access")


class SignedIn(Struct, frozen=True, kw_only=True):
    """What a person holds after signing in. `refresh_token` goes into a cookie and nowhere else."""

    access_token: str
    expires_in_seconds: int
    refresh_token: str
    refresh_expires_at: datetime
    second_factor_needed: bool = False


class AccessService:
    """`demands_second_factor`: people whose role may run commands can do nothing here before they set one up."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        jwt_key: Ed25519PrivateKey,
        credentials: Credentials,
        standings: Standings,
        api_keys: ApiKeyService,
        access_token_seconds: int = 600,
        refresh_days: int = 14,
        demands_second_factor: bool = False,
    ) -> None:
        self._database = database
        self._clock = clock
        self._credentials = credentials
        self._api_keys = api_keys
        self._tokens = AccessTokens(jwt_key, clock, access_token_seconds)
        self._refresh_lifetime = timedelta(days=refresh_days)
        self._demands_second_factor = demands_second_factor
        self._people = AccessStore()
        self._sessions = SessionStore()
        self._by_address = AttemptLimits(clock)
        self._bad_keys = AttemptLimits(clock)
        self._refreshes = AttemptLimits(
            clock, burst=REFRESHES_AT_ONCE, per_second=REFRESHES_PER_SECOND, bad_allowed=BAD_REFRESHES
        )
        self.standings: Final = standings

    async def sign_in(self, request: SignInRequest, address: str) -> SignedIn:
        """`address`: of the person's machine.

        Raises OtpRequired when the password is right and the code is missing; Unauthenticated, or RateLimited.
        """
        account = await self._proved(request, address)
        if account.has_totp and not request.otp:
            raise OtpRequired("enter the code that your authenticator app shows, or a recovery code")
        family_id, now = str(uuid.uuid4()), self._clock.now()
        async with self._database.write(account.organisation_id) as connection:
            await self._check_unchanged(connection, account)
            factor = await self._second_factor(connection, account, request.otp)
            if account.has_totp and factor is None:
                self._note_refused(address, account.username)
                raise Unauthenticated("the code is wrong, or was used already; wait for the next one")
            await self._sessions.forget_expired_of(connection, account.user_id, now)
            signed_in = await self._continued(connection, account, family_id, now, factor is not None)
            detail = {} if factor is None else {"second_factor": factor}
            await self._record(connection, account, "auth:sign-in", family_id, detail)
        return signed_in

    async def refresh(self, refresh_token: str, address: str) -> SignedIn:
        """Burn the token and return what replaces it. Raises Unauthenticated, or RateLimited."""
        network = network_of(address)
        self._refreshes.spend(network)
        try:
            presented = await self._genuine(refresh_token)
        except Unauthenticated:
            self._refreshes.note_bad(network)
            raise
        async with self._database.write(EVERY_ORGANISATION) as connection:
            stored, signed_in = await self._refreshed(connection, presented)
        if signed_in is None:
            self._refreshes.note_bad(network)
            self.standings.end_sessions({stored.family_id} if stored is not None else ())
            raise signed_out()
        return signed_in

    async def sign_out(self, refresh_token: str) -> None:
        """End the sign-in of this token, whether it is the newest of its family or not. Raises Unauthenticated."""
        presented = await self._genuine(refresh_token)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            stored = await self._held(connection, presented)
            if stored is None or not await self._family_stands(connection, stored):
                return
            await self._end(connection, stored, "auth:sign-out")
        self.standings.end_sessions({stored.family_id})

    async def admit(self, token: str, address: str) -> Session:
        """Return the session that a connection from `address` begins. Refused API keys count against its network.

        Raises as session_of does, or RateLimited for a key from where too many bad ones came.
        """
        if not token.startswith(API_KEY_PREFIX):
            return await self.session_of(token)
        network = network_of(address)
        self._bad_keys.check(network)
        try:
            return await self.session_of(token)
        except Unauthenticated:
            self._bad_keys.note_bad(network)
            raise

    async def session_of(self, token: str) -> Session:
        """Raises Unauthenticated unless the access token or API key is good, and its person may still be here."""
        if token.startswith(API_KEY_PREFIX):
            return await self._api_keys.session_of(token)
        claims, now = self._tokens.read(token), self._clock.now()
        standing = self.standings.open(claims.sub, claims.org, claims.sid)
        async with self._database.read(claims.org) as connection:
            account = await self._people.account_in(connection, claims.org, claims.sub)
            has_second_factor = await self._sessions.second_factor_of(connection, claims.org, claims.sid, now)
        if account is None or account.is_locked or account.role is not claims.role:
            raise signed_out()
        if has_second_factor is None or standing.is_over:
            raise signed_out()
        return Session(
            principal=account.principal(is_limited=self._is_limited(account, has_second_factor)),
            session_id=claims.sid,
            expires_at=expiry_of(claims, now),
            standing=standing,
        )

    async def note_ended(self, sessions: Collection[Session]) -> None:
        """Look up, with one query a kind, which sessions ended by what another process did; their standing is over."""
        people = {session.session_id for session in sessions if session.principal.api_key_id is None}
        async with self._database.read(EVERY_ORGANISATION) as connection:
            signed_in = await self._sessions.standing(connection, people, self._clock.now()) if people else set()
            keys = await self._api_keys.standing_among(connection, sessions)
        self.standings.end(
            session.standing
            for session in sessions
            if session.session_id not in keys and (session.session_id, session.principal.role) not in signed_in
        )

    async def principal_of(self, access_token: str) -> Principal:
        """Raises as session_of does."""
        return (await self.session_of(access_token)).principal

    def _is_limited(self, account: Account, has_second_factor: bool) -> bool:
        return self._demands_second_factor and runs_commands(account.role) and not has_second_factor

    async def _proved(self, request: SignInRequest, address: str) -> Account:
        """Return the account that the right password opens. Raises Unauthenticated, or RateLimited."""
        username, network = normalised(request.username), network_of(address)
        self._by_address.check(network)
        self._credentials.spend_attempt(username, network)
        self._by_address.spend(network)
        async with self._database.read(EVERY_ORGANISATION) as connection:
            account = await self._people.account_by_name(connection, username)
            chosen = account
            if request.organisation is not None:
                chosen = await self._people.account_by_name(connection, username, request.organisation)
        stored_hash = None if account is None else account.password_hash
        matches = await self._credentials.passwords.matches(stored_hash, request.password)
        if account is None or not matches or account.is_locked:
            self._note_refused(address, username)
            log.info("sign-in refused", address=address, is_known=account is not None)
            raise Unauthenticated("the user name or the password is wrong, or the user is locked")
        self._by_address.give_back(network)
        self._credentials.give_back_attempt(username, network)
        if chosen is None:
            raise Unauthenticated("you are not in an organisation of this name")
        return chosen

    async def _check_unchanged(self, connection: AsyncConnection, proved: Account) -> None:
        """Raises Unauthenticated when what was proved counts no more: whoever changes it waits for this transaction."""
        await self._people.hold_person(connection, proved.user_id)
        now = await self._people.account_in(connection, proved.organisation_id, proved.user_id)
        if now is None or now.is_locked or (now.password_hash, now.has_totp) != (proved.password_hash, proved.has_totp):
            raise signed_out()

    def _note_refused(self, address: str, username: str) -> None:
        network = network_of(address)
        self._by_address.note_bad(network)
        self._credentials.note_wrong(username, network)

    async def _second_factor(self, connection: AsyncConnection, account: Account, code: str | None) -> Factor | None:
        if not account.has_totp or not code:
            return None
        return await self._credentials.spend_code(connection, account, code)

    async def _refreshed(
        self, connection: AsyncConnection, presented: RefreshToken
    ) -> tuple[StoredRefresh | None, SignedIn | None]:
        """Return no SignedIn for a token that is good no more, with the token when its family ended for that."""
        stored = await self._held(connection, presented)
        now = self._clock.now()
        if stored is None or stored.expires_at <= now or not await self._family_stands(connection, stored):
            return None, None
        if not await self._counts(connection, stored):
            log.warning("refresh token used twice; the sign-in is ended", session_id=stored.family_id)
            await self._end(connection, stored, "auth:refresh-reused")
            return stored, None
        account = await self._people.account_in(connection, stored.organisation_id, stored.user_id)
        if account is None or account.is_locked:
            return None, None
        if stored.used_at is None:
            await self._sessions.burn_refresh(connection, stored.organisation_id, stored.id, now)
        else:
            await self._sessions.revoke_unspent(connection, stored.organisation_id, stored.family_id, now)
        signed_in = await self._continued(
            connection, account, stored.family_id, stored.signed_in_at, stored.has_second_factor
        )
        return stored, signed_in

    async def _counts(self, connection: AsyncConnection, stored: StoredRefresh) -> bool:
        """Tell whether a token of a family that stands gives the next one: it is unspent, or its answer may be lost."""
        if stored.is_revoked:
            return False
        if stored.used_at is None:
            return True
        if abs(self._clock.now() - stored.used_at) > timedelta(seconds=LOST_ANSWER_SECONDS):
            return False
        return not await self._sessions.is_used_later(connection, stored)

    async def _family_stands(self, connection: AsyncConnection, stored: StoredRefresh) -> bool:
        second_factor = await self._sessions.second_factor_of(
            connection, stored.organisation_id, stored.family_id, self._clock.now()
        )
        return second_factor is not None

    async def _genuine(self, text: str) -> RefreshToken:
        """Raises Unauthenticated, without a wait for the writer, for what this hub never gave."""
        presented = RefreshToken.parse(text)
        async with self._database.read(EVERY_ORGANISATION) as connection:
            if await self._matching(connection, presented) is None:
                raise signed_out()
        return presented

    async def _held(self, connection: AsyncConnection, presented: RefreshToken) -> StoredRefresh | None:
        """Return the token as it stays until the transaction ends: a person's sign-ins change in turn."""
        stored = await self._matching(connection, presented)
        if stored is None:
            return None
        await self._people.hold_person(connection, stored.user_id)
        return await self._matching(connection, presented)

    async def _matching(self, connection: AsyncConnection, presented: RefreshToken) -> StoredRefresh | None:
        stored = await self._sessions.refresh_token(connection, presented.id)
        if stored is None or not hmac.compare_digest(stored.secret_sha256, presented.secret_sha256):
            return None
        return stored

    async def _continued(
        self,
        connection: AsyncConnection,
        account: Account,
        family_id: str,
        signed_in_at: datetime,
        has_second_factor: bool,
    ) -> SignedIn:
        token, now = RefreshToken.generate(), self._clock.now()
        stored = StoredRefresh(
            id=token.id,
            organisation_id=account.organisation_id,
            user_id=account.user_id,
            family_id=family_id,
            secret_sha256=token.secret_sha256,
            expires_at=now + self._refresh_lifetime,
            signed_in_at=signed_in_at,
            has_second_factor=has_second_factor,
        )
        await self._sessions.add_refresh(connection, stored, now)
        access_token = self._tokens.issue(
            user_id=account.user_id,
            organisation_id=account.organisation_id,
            role=account.role,
            session_id=family_id,
        )
        return SignedIn(
            access_token=access_token,
            expires_in_seconds=self._tokens.lifetime_seconds,
            refresh_token=token.text,
            refresh_expires_at=stored.expires_at,
            second_factor_needed=self._is_limited(account, has_second_factor),
        )

    async def _end(self, connection: AsyncConnection, stored: StoredRefresh, action: str) -> None:
        await self._sessions.revoke_family(connection, stored.organisation_id, stored.family_id, self._clock.now())
        account = await self._people.account_in(connection, stored.organisation_id, stored.user_id)
        if account is not None:
            await self._record(connection, account, action, stored.family_id, {})

    async def _record(
        self, connection: AsyncConnection, account: Account, action: str, family_id: str, detail: Mapping[str, str]
    ) -> None:
        await record(
            connection,
            organisation_id=account.organisation_id,
            at=self._clock.now(),
            actor=account.principal().actor,
            action=action,
            target=f"session:{family_id}",
            detail=dict(detail),
        )
