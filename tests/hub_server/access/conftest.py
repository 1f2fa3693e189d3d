"""An access service on a real database, with password hashing cheap enough for tests."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub_server.access.passwords import Passwords
from hub_server.access.service import AccessService
from hub_server.storage.engine import Database
from protocol.enrollment import SignInRequest
from protocol.enumerations import Role
from tests.clocks import FakeClock

HOME = "198.51.100.7"
PASSWORD = "marzipan-bicycle-42"


@pytest.fixture
def jwt_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def access(database: Database, clock: FakeClock, jwt_key: Ed25519PrivateKey) -> AccessService:
    passwords = Passwords(time_cost=1, memory_kib=8)
    return AccessService(database=database, clock=clock, jwt_key=jwt_key, passwords=passwords)


@pytest.fixture
async def ada(access: AccessService, organisation_id: str) -> str:
    """The id of a user `ada`, org-admin."""
    return await access.create_user(
        organisation_id=organisation_id, username="Ada", password=PASSWORD, role=Role.ORG_ADMIN
    )


def credentials(username: str = "ada", password: str = PASSWORD) -> SignInRequest:
    return SignInRequest(username=username, password=password)
