"""Access services on a real database, with password hashing cheap enough for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.accounts import AccountService
from hub_server.access.api_keys import ApiKeyService
from hub_server.access.credentials import Credentials
from hub_server.access.model import OnMachine
from hub_server.access.passwords import Passwords
from hub_server.access.service import AccessService
from hub_server.access.standings import Standings
from hub_server.access.users import UserService
from hub_server.audit.tables import AuditRow
from hub_server.clock import Clock
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.vault import Vault
from protocol.enrollment import SignInRequest
from protocol.enumerations import Role
from protocol.people import UsersCreate
from tests.clocks import FakeClock

HOME: Final = "198.51.100.7"
PASSWORD: Final = "marzipan-bicycle-42"


class NoBound:
    """Quotas of an organisation that has none."""

    async def check_users(self, connection: AsyncConnection, organisation_id: str) -> None:
        pass


@dataclass(frozen=True)
class House:
    """All services of access on one database, as the hub wires them."""

    database: Database
    standings: Standings
    credentials: Credentials
    access: AccessService
    accounts: AccountService
    users: UserService
    api_keys: ApiKeyService

    async def add(self, organisation_id: str, username: str, role: Role) -> str:
        """Return the id of a new user with PASSWORD."""
        request = UsersCreate(username=username, password=PASSWORD, role=role)
        return (await self.users.create(OnMachine(organisation_id=organisation_id), request)).user.id

    async def actions(self) -> list[str]:
        """Return what the audit says, oldest first."""
        async with self.database.read(EVERY_ORGANISATION) as connection:
            return list(await connection.scalars(select(col(AuditRow.action)).order_by(col(AuditRow.number))))


def house_on(
    database: Database, clock: Clock, jwt_key: Ed25519PrivateKey, *, demands_second_factor: bool = False
) -> House:
    standings = Standings()
    passwords = Passwords(time_cost=1, memory_kib=8)
    credentials = Credentials(clock=clock, vault=Vault.generate(), passwords=passwords)
    api_keys = ApiKeyService(database=database, clock=clock, standings=standings)
    return House(
        database=database,
        standings=standings,
        credentials=credentials,
        access=AccessService(
            database=database,
            clock=clock,
            jwt_key=jwt_key,
            credentials=credentials,
            standings=standings,
            api_keys=api_keys,
            demands_second_factor=demands_second_factor,
        ),
        accounts=AccountService(database=database, clock=clock, credentials=credentials, standings=standings),
        users=UserService(database=database, clock=clock, passwords=passwords, standings=standings, quotas=NoBound()),
        api_keys=api_keys,
    )


@pytest.fixture
def jwt_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def house(database: Database, clock: FakeClock, jwt_key: Ed25519PrivateKey) -> House:
    return house_on(database, clock, jwt_key)


@pytest.fixture
def access(house: House) -> AccessService:
    return house.access


@pytest.fixture
async def ada(house: House, organisation_id: str) -> str:
    """The id of a user `ada`, org-admin."""
    return await house.add(organisation_id, "Ada", Role.ORG_ADMIN)


def credentials(
    username: str = "ada", password: str = PASSWORD, otp: str | None = None, organisation: str | None = None
) -> SignInRequest:
    return SignInRequest(username=username, password=password, otp=otp, organisation=organisation)
