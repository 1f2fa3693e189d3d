"""The REST routes on a real server, with services that answer from memory."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import CookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from hub_server.access.service import SignedIn
from hub_server.enrollment.model import StoredKey
from hub_server.errors import RateLimited, TokenRefused, Unauthenticated
from hub_server.gateway.rest.assets import AssetRoutes
from hub_server.gateway.rest.bodies import BodyReader
from hub_server.gateway.rest.enrollment import EnrollmentRoutes
from hub_server.gateway.rest.guard import NO_CERTIFICATE, NO_ROUTE, careful_headers, faults_guard
from hub_server.gateway.rest.health import HealthRoutes
from hub_server.gateway.rest.metrics import MetricsDoor, MetricsRoutes
from hub_server.gateway.rest.sign_in import SignInRoutes
from protocol.desired import AgentPolicy
from protocol.enrollment import (
    EnrollPending,
    EnrollReply,
    EnrollRequest,
    RecoverRequest,
    RegisterReply,
    RegisterRequest,
    SignInRequest,
)
from protocol.envelope import SignedTrust
from tests.clocks import FakeClock

Client = TestClient[web.Request, web.Application]
ORIGIN = "http://localhost:3000"
TRUST = SignedTrust(document="", signatures=[])


class Enrollment:
    """Lets in whoever says `good`; who says `waits` waits."""

    def __init__(self) -> None:
        self.asked: list[tuple[EnrollRequest | RegisterRequest | RecoverRequest, str]] = []

    async def enroll(self, request: EnrollRequest, address: str) -> EnrollReply | EnrollPending:
        self.asked.append((request, address))
        return self._answer(request.token)

    async def recover(self, request: RecoverRequest, address: str) -> EnrollReply | EnrollPending:
        self.asked.append((request, address))
        return self._answer(request.signature)

    async def key_of(self, key_text: str, address: str) -> StoredKey:  # noqa: ARG002
        if key_text != "itsk_good":
            raise TokenRefused("this organisation key is unknown here")
        at = datetime(2026, 11, 22, tzinfo=UTC)
        return StoredKey(
            id="key-1",
            organisation_id="organisation-1",
            name="provisioning",
            secret_sha256=b"",
            site="",
            tags=[],
            used=0,
            created_at=at,
            created_by="user:ada",
            expires_at=at,
            last_used_at=None,
            revoked_at=None,
        )

    async def register(self, key: StoredKey, request: RegisterRequest, address: str) -> RegisterReply:
        self.asked.append((request, address))
        return RegisterReply(
            id=f"agent-of-{key.id}",
            websocket_url="wss://hub.example/ws/agents",
            certificate_pem="leaf",
            ca_bundle_pem="root",
            trust=TRUST,
            policy=AgentPolicy(),
        )

    def _answer(self, proof: str) -> EnrollReply | EnrollPending:
        match proof:
            case "good":
                return EnrollReply(
                    agent_id="agent-1",
                    client_cert_pem="leaf",
                    ca_bundle_pem="root",
                    trust=TRUST,
                    policy=AgentPolicy(),
                    websocket_url="wss://hub.example/ws/agents",
                    next_heartbeat_sec=30,
                )
            case "waits":
                return EnrollPending(agent_id="agent-1", poll_after_sec=10)
            case "often":
                raise RateLimited("too many wrong attempts", retry_after_seconds=17)
            case "crash":
                raise KeyError("a secret in an unexpected error")
            case _:
                raise TokenRefused("this enrollment token is unknown here", path="$.token")


class Anchor:
    """What the hub's authority says at the moment; a test may change it."""

    def __init__(self) -> None:
        self.ca_bundle_pem = "the bundle"
        self.trust = TRUST


class Access:
    """Keeps one refresh token."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.serial = 0
        self.asked: list[tuple[SignInRequest, str]] = []
        self.signed_out: list[str] = []

    async def sign_in(self, request: SignInRequest, address: str) -> SignedIn:
        self.asked.append((request, address))
        if request.password != "right":
            raise Unauthenticated("the user name or the password is wrong")
        return self._next()

    async def refresh(self, refresh_token: str, address: str) -> SignedIn:  # noqa: ARG002
        if refresh_token != f"refresh-{self.serial}":
            raise Unauthenticated("you are signed out; sign in again")
        return self._next()

    async def sign_out(self, refresh_token: str) -> None:
        if refresh_token != f"refresh-{self.serial}":
            raise Unauthenticated("you are signed out; sign in again")
        self.signed_out.append(refresh_token)

    def _next(self) -> SignedIn:
        self.serial += 1
        expires_at: datetime = self._clock.now()
        return SignedIn(
            access_token=f"access-{self.serial}",
            expires_in_seconds=600,
            refresh_token=f"refresh-{self.serial}",
            refresh_expires_at=expires_at,
        )


@pytest.fixture
def enrollment() -> Enrollment:
    return Enrollment()


@pytest.fixture
def anchor() -> Anchor:
    return Anchor()


@pytest.fixture
def access(clock: FakeClock) -> Access:
    return Access(clock)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """An empty folder for the dashboard's files."""
    folder = tmp_path / "web"
    folder.mkdir()
    return folder


@pytest.fixture
def reasons() -> list[str]:
    """What keeps the hub from being ready; a test may add to it."""
    return []


@pytest.fixture
async def agents(enrollment: Enrollment, anchor: Anchor) -> AsyncIterator[Client]:
    """A client of the agents' application."""
    application = web.Application(middlewares=[faults_guard(NO_CERTIFICATE)])
    routes = EnrollmentRoutes(enrollment=enrollment, anchor=anchor, bodies=BodyReader(0.2))
    application.add_routes(routes.routes())
    async with TestClient(TestServer(application)) as client:
        yield client


@pytest.fixture
async def people(access: Access, bundle: Path, reasons: list[str]) -> AsyncIterator[Client]:
    """A client of the people's application, with a browser's cookie jar."""

    async def readiness() -> list[str]:
        return reasons

    application = web.Application(middlewares=[faults_guard(NO_ROUTE)])
    application.on_response_prepare.append(careful_headers(ORIGIN))
    for table in (
        HealthRoutes(readiness=readiness),
        MetricsRoutes(exposition=lambda: b"jtnt_up 1\n", door=MetricsDoor()),
        SignInRoutes(access=access, origins={ORIGIN}, is_https=False),
        AssetRoutes(directory=bundle),
    ):
        application.add_routes(table.routes())
    async with TestClient(TestServer(application), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client
