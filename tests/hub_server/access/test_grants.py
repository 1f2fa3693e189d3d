"""Rights never rise without an administrator's act: random people of two organisations do random things."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from msgspec import Struct, field
from sqlalchemy import insert, select
from sqlmodel import col

from hub_server.access.model import PERMISSIONS, OnMachine, Permission, Principal
from hub_server.access.standings import Session
from hub_server.access.tables import MembershipRow, OrganisationRow, UserRow
from hub_server.errors import HubError
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.people import (
    ApiKeysCreate,
    ApiKeysRevoke,
    UsersCreate,
    UsersName,
    UsersSetPassword,
    UsersSetRole,
)
from tests.clocks import FakeClock
from tests.hub_server.access.conftest import HOME, PASSWORD, House, credentials, house_on

FIRST: Final = {
    ("ada", "north"): Role.ORG_ADMIN,
    ("alan", "north"): Role.ORG_ADMIN,
    ("harriet", "north"): Role.HUB_ADMIN,
    ("tina", "north"): Role.TECHNICIAN,
    ("vera", "north"): Role.VIEWER,
    ("bert", "south"): Role.ORG_ADMIN,
    ("bea", "south"): Role.OPERATOR,
    ("vera", "south"): Role.APPROVER,
}
ORGANISATIONS: Final = ("north", "south")
roles = st.sampled_from(Role)
numbers = st.integers(0, 2**16)


class Held(Struct):
    """A session or key that somebody once opened. `key_role`: what a key may do; a sign-in may what its person may."""

    name: str
    organisation: str
    role: Role
    session: Session
    is_key: bool = False
    stands: bool = True


class MadeKey(Struct):
    """An API key: whose, and whether it still opens anything. Once it does not, it never does again."""

    name: str
    organisation: str
    role: Role
    text: str
    id: str
    is_good: bool = True


class Model(Struct):
    """What must be true: who is what where, who is locked, and what they hold."""

    role_of: dict[tuple[str, str], Role] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)
    held: list[Held] = field(default_factory=list)
    keys: list[MadeKey] = field(default_factory=list)

    def names(self) -> list[str]:
        return sorted({name for name, _ in self.role_of})

    def is_elsewhere(self, name: str, organisation: str) -> bool:
        return any(other == name and place != organisation for other, place in self.role_of)

    def is_last_admin(self, name: str, organisation: str) -> bool:
        admins = {
            who
            for (who, place), role in self.role_of.items()
            if place == organisation and role is Role.ORG_ADMIN and who not in self.locked
        }
        return self.role_of.get((name, organisation)) is Role.ORG_ADMIN and not admins - {name}

    def reaches(self, actor: Held, name: str) -> bool:
        """Tell whether `actor` administers people here and may do all that `name` may."""
        target = self.role_of.get((name, actor.organisation))
        if not actor.stands or target is None:
            return False
        own = PERMISSIONS[actor.role]
        return Permission.USERS_WRITE in own and PERMISSIONS[target] <= own

    def may_give(self, actor: Held, role: Role) -> bool:
        own = PERMISSIONS[actor.role]
        return actor.stands and Permission.USERS_WRITE in own and PERMISSIONS[role] <= own

    def void_keys(self, name: str, *, organisation: str | None = None, above: Role | None = None) -> None:
        for key in self.keys:
            is_meant = key.name == name and organisation in {None, key.organisation}
            if is_meant and (above is None or not PERMISSIONS[key.role] <= PERMISSIONS[above]):
                key.is_good = False

    def end(self, name: str, *, organisation: str | None = None, keys: bool, sign_ins: bool = True) -> None:
        for held in self.held:
            is_meant = held.name == name and organisation in {None, held.organisation}
            if is_meant and (keys if held.is_key else sign_ins):
                held.stands = False


class Grants(RuleBasedStateMachine):
    template: Path

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="jtnt-grants-")
        path = shutil.copy(self.template, Path(self._folder.name) / "hub.db")
        self._loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.database = Database(f"sqlite+aiosqlite:///{path}")
        self.house: House = house_on(self.database, self.clock, Ed25519PrivateKey.generate())
        self.model = Model()
        self.ids: dict[str, str] = {}
        self.made = 0

    def teardown(self) -> None:
        self.run(self.database.close())
        self._loop.close()
        self._folder.cleanup()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(coroutine)

    @initialize()
    def people(self) -> None:
        self.run(self._populate())

    async def _populate(self) -> None:
        async with self.database.write(EVERY_ORGANISATION) as connection:
            for organisation in ORGANISATIONS:
                row = {"id": organisation, "name": organisation, "created_at": self.clock.now()}
                await connection.execute(insert(OrganisationRow).values(**row))
        for (name, organisation), role in FIRST.items():
            if name in self.ids:
                await self.house.users.grant(OnMachine(organisation_id=organisation), name, role)
            else:
                self.ids[name] = await self.house.add(organisation, name, role)
        self.model.role_of = dict(FIRST)
        for name, organisation in FIRST:
            await self._signed_in(name, organisation)

    async def _signed_in(self, name: str, organisation: str) -> None:
        self.clock.advance(20)
        signed_in = await self.house.access.sign_in(credentials(name, organisation=organisation), HOME)
        session = await self.house.access.session_of(signed_in.access_token)
        self.model.held.append(Held(name, organisation, session.principal.role, session))

    def one_of(self, pool: list[Any], number: int) -> Any:
        return pool[number % len(pool)]

    def attempt(self, actor: Held, deed: Callable[[Principal], Coroutine[Any, Any, Any]], allowed: bool) -> Any:
        """Do it as the dashboards' server would; what the model forbids is refused and what it allows is done."""
        if actor.session.standing.is_over:
            assert not allowed
            return None
        reply, refusal = None, None
        try:
            reply = self.run(deed(actor.session.principal))
        except HubError as refused:
            refusal = refused
        assert (refusal is None) == allowed, f"{actor}: {refusal or 'did what they may not'}"
        return reply

    def actor(self, number: int) -> Held:
        held: Held = self.one_of(self.model.held, number)
        return held

    def target(self, number: int) -> str:
        name: str = self.one_of(sorted(self.ids), number)
        return name

    @rule(who=numbers, whom=numbers, role=roles)
    def set_role(self, who: int, whom: int, role: Role) -> None:
        actor, name, model = self.actor(who), self.target(whom), self.model
        place = actor.organisation
        keeps_admin = role is Role.ORG_ADMIN or not model.is_last_admin(name, place)
        allowed = model.reaches(actor, name) and model.may_give(actor, role) and keeps_admin
        request = UsersSetRole(user_id=self.ids[name], role=role)
        if self.attempt(actor, lambda principal: self.house.users.set_role(principal, request), allowed):
            before, model.role_of[name, place] = model.role_of[name, place], role
            model.void_keys(name, organisation=place, above=role)
            for held in model.held:
                if (held.name, held.organisation) == (name, place) and (
                    not PERMISSIONS[held.role] <= PERMISSIONS[role] if held.is_key else before is not role
                ):
                    held.stands = False

    @rule(who=numbers, role=roles)
    def create(self, who: int, role: Role) -> None:
        actor, self.made = self.actor(who), self.made + 1
        name = f"new-{self.made}"
        request = UsersCreate(username=name, password=PASSWORD, role=role)
        allowed = self.model.may_give(actor, role)
        reply = self.attempt(actor, lambda principal: self.house.users.create(principal, request), allowed)
        if reply is not None:
            self.ids[name] = reply.user.id
            self.model.role_of[name, actor.organisation] = role

    @rule(who=numbers, whom=numbers)
    def lock(self, who: int, whom: int) -> None:
        actor, name, model = self.actor(who), self.target(whom), self.model
        free = not model.is_elsewhere(name, actor.organisation) and not model.is_last_admin(name, actor.organisation)
        request = UsersName(user_id=self.ids[name])
        if self.attempt(actor, lambda who: self.house.users.lock(who, request), model.reaches(actor, name) and free):
            model.locked.add(name)
            model.void_keys(name)
            model.end(name, keys=True)

    @rule(who=numbers, whom=numbers)
    def unlock(self, who: int, whom: int) -> None:
        actor, name, model = self.actor(who), self.target(whom), self.model
        allowed = model.reaches(actor, name) and not model.is_elsewhere(name, actor.organisation)
        request = UsersName(user_id=self.ids[name])
        if self.attempt(actor, lambda who: self.house.users.unlock(who, request), allowed):
            model.locked.discard(name)

    @rule(who=numbers, whom=numbers)
    def set_password(self, who: int, whom: int) -> None:
        actor, name, model = self.actor(who), self.target(whom), self.model
        free = not model.is_elsewhere(name, actor.organisation) and actor.name != name
        request = UsersSetPassword(user_id=self.ids[name], password=PASSWORD)
        allowed = model.reaches(actor, name) and free
        if self.attempt(actor, lambda who: self.house.users.set_password(who, request), allowed):
            model.end(name, keys=False)

    @rule(who=numbers, whom=numbers)
    def remove(self, who: int, whom: int) -> None:
        actor, name, model = self.actor(who), self.target(whom), self.model
        place = actor.organisation
        allowed = model.reaches(actor, name) and not model.is_last_admin(name, place)
        request = UsersName(user_id=self.ids[name])
        if self.attempt(actor, lambda principal: self.house.users.remove(principal, request), allowed):
            del model.role_of[name, place]
            model.end(name, organisation=place, keys=True)
            model.void_keys(name, organisation=place)
            if name not in model.names():
                model.locked.discard(name)

    @rule(who=numbers, role=roles)
    def make_key(self, who: int, role: Role) -> None:
        actor = self.actor(who)
        own = PERMISSIONS[actor.role]
        allowed = actor.stands and not actor.is_key and Permission.API_KEYS_WRITE in own and PERMISSIONS[role] <= own
        request = ApiKeysCreate(name="k", role=role)
        reply = self.attempt(actor, lambda principal: self.house.api_keys.create(principal, request), allowed)
        if reply is not None:
            key = MadeKey(actor.name, actor.organisation, role, reply.key_text, reply.key.id)
            self.model.keys.append(key)

    @rule(which=numbers)
    def connect_with_key(self, which: int) -> None:
        """A key opens a session for as long as nothing ended it, and never again after that."""
        if not self.model.keys:
            return
        key = self.one_of(self.model.keys, which)
        try:
            session = self.run(self.house.access.session_of(key.text))
        except HubError:
            session = None
        assert (session is not None) == key.is_good, key
        if session is not None:
            self.model.held.append(Held(key.name, key.organisation, key.role, session, is_key=True))

    @rule(who=numbers, which=numbers)
    def revoke_key(self, who: int, which: int) -> None:
        if not self.model.keys:
            return
        actor, key = self.actor(who), self.one_of(self.model.keys, which)
        exists = key.organisation == actor.organisation and key.name in self.model.names()
        allowed = actor.stands and Permission.API_KEYS_WRITE in PERMISSIONS[actor.role] and exists
        request = ApiKeysRevoke(key_id=key.id)
        if self.attempt(actor, lambda principal: self.house.api_keys.revoke(principal, request), allowed):
            key.is_good = False
            for held in self.model.held:
                if held.session.principal.api_key_id == key.id:
                    held.stands = False

    @rule(whom=numbers)
    def sign_in_again(self, whom: int) -> None:
        name, organisation = self.one_of(sorted(self.model.role_of), whom)
        if name in self.model.locked:
            self.clock.advance(700)
            try:
                self.run(self._signed_in(name, organisation))
            except HubError:
                return
            raise AssertionError(f"{name} is locked and signed in")
        self.run(self._signed_in(name, organisation))

    @invariant()
    def people_are_what_the_model_says(self) -> None:
        if self.model.role_of:
            found, locked = self.run(self._memberships())
            assert found == self.model.role_of
            assert locked == self.model.locked

    @invariant()
    def what_stands_is_what_the_model_says(self) -> None:
        for held in self.model.held:
            assert held.session.standing.is_over == (not held.stands), held

    @invariant()
    def nobody_holds_more_than_their_person_is(self) -> None:
        for held in self.model.held:
            role = self.model.role_of.get((held.name, held.organisation))
            if not held.session.standing.is_over:
                assert role is not None
                assert held.name not in self.model.locked
                assert PERMISSIONS[held.session.principal.role] <= PERMISSIONS[role]

    @invariant()
    def every_organisation_has_an_administrator(self) -> None:
        for organisation in ORGANISATIONS if self.model.role_of else ():
            assert any(
                role is Role.ORG_ADMIN and place == organisation and name not in self.model.locked
                for (name, place), role in self.model.role_of.items()
            )

    async def _memberships(self) -> tuple[dict[tuple[str, str], Role], set[str]]:
        query = select(
            col(UserRow.username), col(MembershipRow.organisation_id), col(MembershipRow.role), col(UserRow.locked_at)
        ).join(MembershipRow, col(MembershipRow.user_id) == col(UserRow.id))
        async with self.database.read(EVERY_ORGANISATION) as connection:
            rows = (await connection.execute(query)).all()
        return {(row[0], row[1]): Role(row[2]) for row in rows}, {row[0] for row in rows if row[3] is not None}


def test_rights_never_rise_without_an_administrators_act(migrated_file: Path) -> None:
    machine = type("GrantsHere", (Grants,), {"template": migrated_file})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink thirty steps on a database takes minutes
        ),
    )
