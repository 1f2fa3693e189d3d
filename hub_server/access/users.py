"""Administration of people: by those of their organisation who may, or on the hub's machine.

Every change is one transaction that first holds the organisation's memberships and looks again at who asks: somebody
whose own rights ended a moment ago, here, on the command line or at another hub, changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import structlog
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.api_keys import session_id_of
from hub_server.access.authorization import authorize
from hub_server.access.engine import Deed, Target, check_deed, check_grant, may_grant
from hub_server.access.model import PERMISSIONS, OnMachine, Permission, Principal, covers, normalised
from hub_server.access.passwords import Passwords
from hub_server.access.session_store import SessionStore
from hub_server.access.standings import Standings
from hub_server.access.store import AccessStore, Member
from hub_server.access.tokens import key_refused, signed_out
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import Conflict, InvalidRequest, NotFound
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.people import (
    RolesList,
    RolesListReply,
    RoleView,
    UserReply,
    UsersCreate,
    UsersList,
    UsersListReply,
    UsersName,
    UsersSetPassword,
    UsersSetRole,
    UserView,
)
from protocol.requests import Reply

DEFAULT_ORGANISATION: Final = "default"
USERNAME_MAX_CHARS: Final = 128
RESERVED_IN_NAMES: Final = frozenset("+:")  # the audit writes `user:ada+key:<id>`
log = structlog.get_logger(component="access")
Administrator = Principal | OnMachine


class UserQuota(Protocol):
    async def check_users(self, connection: AsyncConnection, organisation_id: str) -> None:
        """Raises QuotaReached when the organisation may not have one more person."""


class _Change(Struct, frozen=True):
    """A change under way: its transaction, who does it, and to whom."""

    connection: AsyncConnection
    who: Administrator
    deed: Deed
    member: Member


class UserService:
    """People are one for all organisations they are in, so every organisation is in scope here; a principal reaches
    only those of their own.
    """

    def __init__(
        self, *, database: Database, clock: Clock, passwords: Passwords, standings: Standings, quotas: UserQuota
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._standings = standings
        self._quotas = quotas
        self._people = AccessStore()
        self._sessions = SessionStore()

    async def list(self, who: Administrator, request: UsersList) -> UsersListReply:
        organisation_id = _permitted(who, Permission.USERS_READ)
        async with self._database.read(EVERY_ORGANISATION) as connection:
            members, total = await self._people.members(
                connection, organisation_id, limit=request.limit, offset=request.offset
            )
        return UsersListReply(
            users=[_view(member) for member in members],
            grantable=[role for role in Role if may_grant(who, role)],
            total=total,
            limit=request.limit,
            offset=request.offset,
        )

    async def roles(self, principal: Principal, _request: RolesList) -> RolesListReply:
        authorize(principal, Permission.SELF)
        return RolesListReply(
            roles=[
                RoleView(role=role, permissions=sorted(PERMISSIONS[role]), is_grantable=may_grant(principal, role))
                for role in Role
            ]
        )

    async def create(self, who: Administrator, request: UsersCreate) -> UserReply:
        """Raises InvalidRequest for a bad name or a weak password, Conflict for a name that is taken, QuotaReached."""
        organisation_id = _permitted(who, Permission.USERS_WRITE)
        check_grant(who, request.role)
        name = normalised(request.username)
        if not 0 < len(name) <= USERNAME_MAX_CHARS or not name.isprintable():
            raise InvalidRequest("the user name needs 1 to 128 printable characters", path="$.username")
        if not RESERVED_IN_NAMES.isdisjoint(name):
            raise InvalidRequest("a user name holds neither + nor :, choose another", path="$.username")
        password_hash = await self._passwords.hash_new(request.password, name)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await self._hold(connection, who)
            await self._quotas.check_users(connection, organisation_id)
            user_id = await self._people.add_user(
                connection,
                organisation_id,
                username=name,
                password_hash=password_hash,
                role=request.role,
                at=self._clock.now(),
            )
            member = await self._member(connection, organisation_id, user_id)
            await self._record(connection, who, "users:create", member, role=request.role.value)
        return UserReply(user=_view(member))

    async def set_role(self, who: Administrator, request: UsersSetRole) -> UserReply:
        """The person's sign-ins close and come back with the new role; keys that may do more than it end."""
        async with self._changing(who, Deed.SET_ROLE, request.user_id, request.role) as change:
            await self._people.save_role(change.connection, who.organisation_id, request.user_id, request.role)
            ended = await self._end_keys_above(change, request.role)
            member = await self._recorded(change, role=request.role.value, before=change.member.role.value)
        if ended or change.member.role is not request.role:
            self._standings.end_user(request.user_id, organisation_id=who.organisation_id, keys=ended)
        return UserReply(user=_view(member))

    async def set_password(self, who: Administrator, request: UsersSetPassword) -> UserReply:
        """Every sign-in of the person ends. Raises InvalidRequest for a weak password."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            _permitted(who, Permission.USERS_WRITE)
            name = (await self._member(connection, who.organisation_id, request.user_id)).username
        password_hash = await self._passwords.hash_new(request.password, name)
        async with self._changing(who, Deed.SET_PASSWORD, request.user_id) as change:
            now = self._clock.now()
            await self._people.save_password(change.connection, request.user_id, password_hash, now)
            member = await self._signed_out(change)
        self._standings.end_user(request.user_id)
        return UserReply(user=_view(member))

    async def remove_totp(self, who: Administrator, request: UsersName) -> UserReply:
        """For somebody who lost their device. Every sign-in of the person ends."""
        async with self._changing(who, Deed.REMOVE_TOTP, request.user_id) as change:
            await self._people.clear_totp(change.connection, request.user_id)
            member = await self._signed_out(change)
        self._standings.end_user(request.user_id)
        return UserReply(user=_view(member))

    async def lock(self, who: Administrator, request: UsersName) -> UserReply:
        """Every sign-in and every API key of the person ends, and none begins until they are unlocked."""
        async with self._changing(who, Deed.LOCK, request.user_id) as change:
            if change.member.locked_at is None:
                await self._people.save_lock(change.connection, request.user_id, self._clock.now())
            ended = await self._end_keys_above(change, None)
            member = await self._signed_out(change)
        self._standings.end_user(request.user_id, keys=ended)
        return UserReply(user=_view(member))

    async def unlock(self, who: Administrator, request: UsersName) -> UserReply:
        async with self._changing(who, Deed.UNLOCK, request.user_id) as change:
            await self._people.save_lock(change.connection, request.user_id, None)
            member = await self._recorded(change)
        return UserReply(user=_view(member))

    async def remove(self, who: Administrator, request: UsersName) -> Reply:
        """Take a person out of the organisation; who is in no other is forgotten."""
        async with self._changing(who, Deed.REMOVE, request.user_id) as change:
            now, organisation_id = self._clock.now(), who.organisation_id
            await self._sessions.revoke_sign_ins(
                change.connection, request.user_id, now, organisation_id=organisation_id
            )
            ended = await self._end_keys_above(change, None)
            await self._people.remove_member(change.connection, organisation_id, request.user_id)
            await self._record(change.connection, who, "users:remove", change.member)
        self._standings.end_user(request.user_id, organisation_id=who.organisation_id, keys=ended)
        return Reply()

    # On the hub's machine only.

    async def grant(self, machine: OnMachine, username: str, role: Role) -> UserReply:
        """Give somebody a role, and let them into the organisation where they are not in it yet.

        Raises NotFound, QuotaReached.
        """
        user_id = await self._known(username)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await self._people.hold_members(connection, machine.organisation_id)
            member = await self._people.member(connection, machine.organisation_id, user_id)
            if member is None:
                await self._quotas.check_users(connection, machine.organisation_id)
                await self._people.add_membership(connection, machine.organisation_id, user_id, role)
                member = await self._member(connection, machine.organisation_id, user_id)
                await self._record(connection, machine, "users:grant", member, role=role.value)
                return UserReply(user=_view(member))
        return await self.set_role(machine, UsersSetRole(user_id=user_id, role=role))

    async def id_of(self, machine: OnMachine, username: str) -> str:
        """Return the id of somebody who is in the organisation. Raises NotFound."""
        user_id = await self._known(username)
        async with self._database.read(EVERY_ORGANISATION) as connection:
            if await self._people.member(connection, machine.organisation_id, user_id) is None:
                raise NotFound(
                    f"{normalised(username)} is not in this organisation; name theirs with --organisation",
                    path="$.username",
                )
        return user_id

    async def default_organisation(self) -> str | None:
        """Return the oldest organisation of this hub, None before the first start."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            return await self._people.oldest_organisation(connection)

    async def ensure_default_organisation(self) -> str:
        """Return the oldest organisation of this hub, made now where there is none."""
        if (existing := await self.default_organisation()) is not None:
            return existing
        try:
            async with self._database.write(EVERY_ORGANISATION) as connection:
                existing = await self._people.oldest_organisation(connection)
                now = self._clock.now()
                return existing or await self._people.add_organisation(connection, DEFAULT_ORGANISATION, now)
        except Conflict:  # another hub on this database was faster
            existing = await self.default_organisation()
            if existing is None:
                raise
            return existing

    @asynccontextmanager
    async def _changing(
        self, who: Administrator, deed: Deed, user_id: str, new_role: Role | None = None
    ) -> AsyncIterator[_Change]:
        """A transaction in which `who` may do this to that person. Raises NotFound, Forbidden, Conflict."""
        organisation_id = _permitted(who, Permission.USERS_WRITE)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            await self._hold(connection, who)
            await self._people.hold_person(connection, user_id)
            member = await self._member(connection, organisation_id, user_id)
            is_last = member.role is Role.ORG_ADMIN and not await self._people.has_other_admin(
                connection, organisation_id, user_id
            )
            target = Target(user_id=user_id, role=member.role, is_elsewhere=member.is_elsewhere, is_last_admin=is_last)
            check_deed(who, deed, target, new_role)
            yield _Change(connection, who, deed, member)

    async def _hold(self, connection: AsyncConnection, who: Administrator) -> None:
        """Keep memberships as they are until the end, and look again at who asks. Raises Unauthenticated."""
        await self._people.hold_members(connection, who.organisation_id)
        if isinstance(who, OnMachine):
            return
        account = await self._people.account_in(connection, who.organisation_id, who.user_id)
        if account is None or account.is_locked or not covers(account.role, who.role):
            raise signed_out()
        if who.api_key_id is not None:
            key = await self._sessions.key(connection, who.api_key_id)
            if key is None or key.revoked_at is not None:
                raise key_refused()

    async def _member(self, connection: AsyncConnection, organisation_id: str, user_id: str) -> Member:
        member = await self._people.member(connection, organisation_id, user_id)
        if member is None:
            raise NotFound("there is no such person in your organisation", path="$.userId")
        return member

    async def _known(self, username: str) -> str:
        name = normalised(username)
        async with self._database.read(EVERY_ORGANISATION) as connection:
            user_id = await self._people.user_id_of(connection, name)
        if user_id is None:
            raise NotFound(f"there is no user {name!r}", path="$.username")
        return user_id

    async def _signed_out(self, change: _Change) -> Member:
        """End every sign-in of the person, and write the deed."""
        await self._sessions.revoke_sign_ins(change.connection, change.member.user_id, self._clock.now())
        return await self._recorded(change)

    async def _end_keys_above(self, change: _Change, role: Role | None) -> Set[str]:
        """End the person's API keys that may do more than `role`; None: all, in every organisation for a lock.

        Return their session ids, to end once the transaction is through.
        """
        now = self._clock.now()
        keys = await self._sessions.keys_of(change.connection, change.member.user_id, now)
        is_everywhere = change.deed is Deed.LOCK
        ended = [
            key.id
            for key in keys
            if (is_everywhere or key.organisation_id == change.who.organisation_id)
            and (role is None or not covers(role, key.role))
        ]
        if ended:
            await self._sessions.revoke_keys(change.connection, ended, now)
        return {session_id_of(key_id) for key_id in ended}

    async def _recorded(self, change: _Change, **detail: Any) -> Member:
        """Write the deed and return the person as they are after it."""
        member = await self._member(change.connection, change.who.organisation_id, change.member.user_id)
        await self._record(change.connection, change.who, f"users:{change.deed}", member, **detail)
        return member

    async def _record(
        self, connection: AsyncConnection, who: Administrator, action: str, member: Member, **detail: Any
    ) -> None:
        await record(
            connection,
            organisation_id=who.organisation_id,
            at=self._clock.now(),
            actor=who.actor,
            action=action,
            target=f"user:{member.username}",
            detail=detail,
        )
        log.info("people changed", action=action, actor=who.actor, username=member.username)


def _permitted(who: Administrator, permission: Permission) -> str:
    return who.organisation_id if isinstance(who, OnMachine) else authorize(who, permission)


def _view(member: Member) -> UserView:
    return UserView(
        id=member.user_id,
        username=member.username,
        role=member.role,
        totp=member.has_totp,
        is_elsewhere=member.is_elsewhere,
        created_at=member.created_at,
        locked_at=member.locked_at,
        last_sign_in_at=member.last_sign_in_at,
    )
