"""What people do with their own account: password, second factor, sign-ins."""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.credentials import Credentials
from hub_server.access.model import Principal, permissions_of
from hub_server.access.second_factor import digest_of, new_recovery_codes, new_secret, uri_of
from hub_server.access.session_store import SessionStore, SignIn
from hub_server.access.standings import Standings
from hub_server.access.store import AccessStore, Account
from hub_server.access.tokens import signed_out
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import Conflict, Forbidden, InvalidRequest
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.people import (
    AccountBeginTotp,
    AccountBeginTotpReply,
    AccountConfirmTotp,
    AccountGetReply,
    AccountNewRecoveryCodes,
    AccountRemoveTotp,
    AccountSetPassword,
    MembershipView,
    RecoveryCodesReply,
    SignInView,
)
from protocol.requests import Reply

ISSUER: Final = "JTNT"


class AccountService:
    """Each call is by `principal` about themselves; `session_id` is the sign-in that asks.

    The account is one for all organisations of its person, so every organisation is in scope here. An API key may read
    its maker's account and change nothing in it.
    """

    def __init__(self, *, database: Database, clock: Clock, credentials: Credentials, standings: Standings) -> None:
        self._database = database
        self._clock = clock
        self._credentials = credentials
        self._standings = standings
        self._people = AccessStore()
        self._sessions = SessionStore()

    async def get(self, principal: Principal, session_id: str) -> AccountGetReply:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            account = await self._own(connection, principal)
            memberships = await self._people.memberships(connection, principal.user_id)
            sign_ins = await self._sessions.open_sign_ins(connection, principal.user_id, self._clock.now())
            codes_left = await self._people.recovery_codes_left(connection, principal.user_id)
        names = {membership.organisation_id: membership.organisation for membership in memberships}
        return AccountGetReply(
            user_id=principal.user_id,
            username=principal.username,
            organisation_id=principal.organisation_id,
            organisation=names[principal.organisation_id],
            role=principal.role,
            permissions=sorted(permissions_of(principal)),
            totp=account.has_totp,
            recovery_codes_left=codes_left,
            second_factor_needed=principal.is_limited,
            password_changed_at=account.password_changed_at,
            memberships=[
                MembershipView(organisation_id=one.organisation_id, organisation=one.organisation, role=one.role)
                for one in memberships
            ],
            sign_ins=[_sign_in_view(sign_in, session_id) for sign_in in sign_ins],
        )

    async def set_password(self, principal: Principal, session_id: str, request: AccountSetPassword) -> Reply:
        """All other sign-ins of the person end. Raises InvalidRequest for a wrong old or a weak new password."""
        account = await self._proved(principal, request.current, "$.current")
        password_hash = await self._credentials.passwords.hash_new(request.new, account.username, "$.new")
        now = self._clock.now()
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await self._check_unchanged(connection, account)
            await self._people.save_password(connection, account.user_id, password_hash, now)
            await self._sessions.revoke_sign_ins(connection, account.user_id, now, but_family=session_id)
            await self._record(connection, principal, "account:set-password")
        self._standings.end_user(account.user_id, but_session=session_id)
        return Reply()

    async def begin_totp(self, principal: Principal, request: AccountBeginTotp) -> AccountBeginTotpReply:
        """Raises Conflict when a second factor is set up already."""
        account = await self._proved(principal, request.password, "$.password")
        secret = new_secret()
        sealed = self._credentials.sealed(account.user_id, secret)
        async with self._database.write(principal.organisation_id) as connection:
            if not await self._people.save_pending_totp(connection, account.user_id, sealed):
                raise Conflict("a second factor is set up already: remove it first")
            await self._record(connection, principal, "account:begin-totp")
        return AccountBeginTotpReply(secret=secret, uri=uri_of(secret, account.username, ISSUER))

    async def confirm_totp(
        self, principal: Principal, session_id: str, request: AccountConfirmTotp
    ) -> RecoveryCodesReply:
        """Let the second factor count. This sign-in has it from now on: a refresh makes its rights whole."""
        account = await self._person(principal)
        if account.has_totp or account.totp_sealed is None:
            raise Conflict("there is nothing to confirm: begin with account:begin-totp")
        step = self._credentials.confirming_step(account, request.code)
        codes, now = new_recovery_codes(), self._clock.now()
        async with self._database.write(principal.organisation_id) as connection:
            if not await self._people.confirm_totp(connection, account.user_id, account.totp_sealed, now, step):
                raise Conflict("the secret was replaced meanwhile: begin again")
            await self._people.replace_recovery_codes(connection, account.user_id, [digest_of(code) for code in codes])
            await self._sessions.note_second_factor(connection, principal.organisation_id, session_id)
            await self._record(connection, principal, "account:confirm-totp")
        return RecoveryCodesReply(recovery_codes=codes)

    async def remove_totp(self, principal: Principal, request: AccountRemoveTotp) -> Reply:
        """Every sign-in of the person ends, this one too."""
        account = await self._proved(principal, request.password, "$.password")
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await self._spend(connection, account, request.code)
            await self._people.clear_totp(connection, account.user_id)
            await self._sessions.revoke_sign_ins(connection, account.user_id, self._clock.now())
            await self._record(connection, principal, "account:remove-totp")
        self._standings.end_user(account.user_id)
        return Reply()

    async def new_recovery_codes(self, principal: Principal, request: AccountNewRecoveryCodes) -> RecoveryCodesReply:
        account = await self._proved(principal, request.password, "$.password")
        codes = new_recovery_codes()
        async with self._database.write(principal.organisation_id) as connection:
            await self._spend(connection, account, request.code)
            await self._people.replace_recovery_codes(connection, account.user_id, [digest_of(code) for code in codes])
            await self._record(connection, principal, "account:new-recovery-codes")
        return RecoveryCodesReply(recovery_codes=codes)

    async def sign_out_everywhere(self, principal: Principal) -> Reply:
        _check_is_person(principal)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await self._people.hold_person(connection, principal.user_id)
            await self._sessions.revoke_sign_ins(connection, principal.user_id, self._clock.now())
            await self._record(connection, principal, "account:sign-out-everywhere")
        self._standings.end_user(principal.user_id)
        return Reply()

    async def _person(self, principal: Principal) -> Account:
        _check_is_person(principal)
        async with self._database.read(principal.organisation_id) as connection:
            return await self._own(connection, principal)

    async def _proved(self, principal: Principal, password: str, path: str) -> Account:
        account = await self._person(principal)
        await self._credentials.prove_password(account, password, path)
        return account

    async def _own(self, connection: AsyncConnection, principal: Principal) -> Account:
        account = await self._people.account_in(connection, principal.organisation_id, principal.user_id)
        if account is None or account.is_locked:
            raise signed_out()
        return account

    async def _check_unchanged(self, connection: AsyncConnection, proved: Account) -> None:
        """Raises Unauthenticated when the password that was proved is no more the person's."""
        await self._people.hold_person(connection, proved.user_id)
        now = await self._people.account_in(connection, proved.organisation_id, proved.user_id)
        if now is None or now.is_locked or now.password_hash != proved.password_hash:
            raise signed_out()

    async def _spend(self, connection: AsyncConnection, account: Account, code: str) -> None:
        if not account.has_totp:
            raise Conflict("no second factor is set up")
        if await self._credentials.spend_code(connection, account, code) is None:
            raise InvalidRequest("the code is wrong, or was used already; wait for the next one", path="$.code")

    async def _record(self, connection: AsyncConnection, principal: Principal, action: str) -> None:
        await record(
            connection,
            organisation_id=principal.organisation_id,
            at=self._clock.now(),
            actor=principal.actor,
            action=action,
            target=f"user:{principal.username}",
        )


def _check_is_person(principal: Principal) -> None:
    if principal.api_key_id is not None:
        raise Forbidden("an API key does not change its maker's account: sign in as the person")


def _sign_in_view(sign_in: SignIn, session_id: str) -> SignInView:
    return SignInView(
        id=sign_in.id,
        signed_in_at=sign_in.signed_in_at,
        last_used_at=sign_in.last_used_at,
        expires_at=sign_in.expires_at,
        is_this=sign_in.id == session_id,
    )
