"""How a machine joins: its token is burnt, its agent registered and its certificate issued in one transaction.

An answer that got lost may be asked for again: the same token with the same key gives the same certificate for ten
minutes. Only attempts that fail to prove themselves count against an address, so that a whole site can join at once.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.limits import AttemptLimits, network_of
from hub_server.access.model import Permission, Principal
from hub_server.audit.record import record
from hub_server.bus.port import Bus
from hub_server.clock import Clock
from hub_server.enrollment.model import StoredToken, TokenUse
from hub_server.enrollment.store import TokenStore
from hub_server.enrollment.tokens import TokenDesk
from hub_server.errors import TokenRefused
from hub_server.events import AgentEnrolled
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.desired import AgentPolicy
from protocol.enrollment import EnrollReply, EnrollRequest
from protocol.envelope import SignedTrust
from protocol.frames import SystemInformation
from protocol.identity import EnrollmentToken, MalformedIdentity, pins_match
from protocol.joining import (
    TokensCreate,
    TokensCreateReply,
    TokensList,
    TokensListReply,
    TokensRevoke,
    TokensRevokeReply,
)

REPEAT_WINDOW: Final = timedelta(minutes=10)
log = structlog.get_logger(component="enrollment")


class AgentRegistrar(Protocol):
    """Whoever keeps the fleet."""

    async def register(
        self,
        connection: AsyncConnection,
        *,
        organisation_id: str,
        hostname: str,
        sysinfo: SystemInformation,
        agent_version: str,
        boot_id: str,
        site: str,
        tags: list[str],
    ) -> str:
        """Add an agent within the caller's transaction; return its id."""

    async def reload(self, organisation_id: str, agent_id: str) -> None:
        """The agent's transaction is committed: it can be found from now on."""


class Certificate(Protocol):
    """What enrollment needs to know of an issued certificate. `pem`: leaf, then issuing CA."""

    @property
    def agent_id(self) -> str: ...
    @property
    def serial(self) -> str: ...
    @property
    def pem(self) -> str: ...
    @property
    def not_after(self) -> datetime: ...


class Certificates(Protocol):
    """Whoever issues certificates."""

    def key_sha256_of(self, csr_pem: str) -> bytes:
        """Return the SHA-256 of the public key that the CSR proves possession of. Raises InvalidRequest."""

    async def issue(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, csr_pem: str
    ) -> Certificate:
        """Issue within the caller's transaction. Raises KeyInUse."""

    async def find(self, connection: AsyncConnection, organisation_id: str, serial: str) -> Certificate | None:
        """Return an issued certificate unless it was revoked."""

    def note_issued(self, *, serial: str, agent_id: str, expires_at: datetime) -> None:
        """The certificate's transaction is committed."""


class Anchor(Protocol):
    """What a new agent is told to trust."""

    @property
    def ca_bundle_pem(self) -> str: ...
    @property
    def trust(self) -> SignedTrust: ...
    @property
    def root_pin(self) -> bytes: ...


class EnrollmentService:
    """`anchor`: the hub's authority. `websocket_url`: where an agent connects once it has its certificate."""

    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        certificates: Certificates,
        anchor: Anchor,
        agents: AgentRegistrar,
        join_host: str,
        join_port: int,
        websocket_url: str,
        next_heartbeat_seconds: int,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._certificates = certificates
        self._anchor = anchor
        self._agents = agents
        self._websocket_url = websocket_url
        self._next_heartbeat_seconds = next_heartbeat_seconds
        self._store = TokenStore()
        self._limits = AttemptLimits(clock)
        self._desk = TokenDesk(
            database=database, clock=clock, root_pin=anchor.root_pin, join_host=join_host, join_port=join_port
        )

    async def enroll(self, request: EnrollRequest, address: str) -> EnrollReply:
        """Let a machine join. `address`: the peer's.

        Raises TokenRefused, InvalidRequest for the CSR, KeyInUse, RateLimited; nothing is changed then.
        """
        network = network_of(address)
        self._limits.check(network)
        try:
            token = await self._proven(request.token)
            key = self._certificates.key_sha256_of(request.csr_pem)
            async with self._database.write(token.organisation_id) as connection:
                certificate, is_new = await self._joined(connection, request, token, key, address)
        except TokenRefused as refused:
            self._limits.spend_if_any(network)
            self._limits.note_bad(network)
            log.info("enrollment refused", address=address, why=refused.message)
            raise
        self._certificates.note_issued(
            serial=certificate.serial, agent_id=certificate.agent_id, expires_at=certificate.not_after
        )
        if is_new:
            await self._agents.reload(token.organisation_id, certificate.agent_id)
            log.info("agent enrolled", agent_id=certificate.agent_id, address=address, token_id=token.id)
            self._bus.publish(
                AgentEnrolled(
                    organisation_id=token.organisation_id,
                    agent_id=certificate.agent_id,
                    hostname=request.sysinfo.hostname,
                )
            )
        return EnrollReply(
            agent_id=certificate.agent_id,
            client_cert_pem=certificate.pem,
            ca_bundle_pem=self._anchor.ca_bundle_pem,
            trust=self._anchor.trust,
            policy=AgentPolicy(),
            websocket_url=self._websocket_url,
            next_heartbeat_sec=self._next_heartbeat_seconds,
        )

    async def create_token(self, principal: Principal, request: TokensCreate) -> TokensCreateReply:
        organisation_id = authorize(principal, Permission.TOKENS_WRITE)
        return await self.mint_token(organisation_id, principal.actor, request)

    async def mint_token(self, organisation_id: str, actor: str, request: TokensCreate) -> TokensCreateReply:
        """Make a token for whoever the caller found permitted."""
        return await self._desk.mint(organisation_id, actor, request)

    async def list_tokens(self, principal: Principal, request: TokensList) -> TokensListReply:
        return await self._desk.page(authorize(principal, Permission.TOKENS_READ), request)

    async def revoke_token(self, principal: Principal, request: TokensRevoke) -> TokensRevokeReply:
        organisation_id = authorize(principal, Permission.TOKENS_WRITE)
        return await self._desk.revoke(organisation_id, principal.actor, request)

    async def _proven(self, text: str) -> StoredToken:
        """Return the token whose secret `text` holds. Raises TokenRefused."""
        try:
            presented = EnrollmentToken.parse(text)
        except MalformedIdentity as error:
            raise TokenRefused(str(error), path="$.token") from error
        if not pins_match(presented.pin, self._anchor.root_pin):
            raise TokenRefused("this enrollment token was made by another hub", path="$.token")
        async with self._database.read(EVERY_ORGANISATION) as connection:
            stored = await self._store.find(connection, presented.id)
        expected = bytes(32) if stored is None else stored.secret_sha256
        if not hmac.compare_digest(expected, presented.secret_sha256) or stored is None:
            raise TokenRefused("this enrollment token is unknown here; ask for a new one", path="$.token")
        return stored

    async def _joined(
        self, connection: AsyncConnection, request: EnrollRequest, proven: StoredToken, key: bytes, address: str
    ) -> tuple[Certificate, bool]:
        """Return the certificate, and whether it is a new one."""
        token, now = await self._store.find(connection, proven.id, lock=True) or proven, self._clock.now()
        earlier = await self._store.use_of(connection, token.organisation_id, token.id, key)
        if earlier is not None:
            return await self._repeated(connection, token, earlier, now), False
        if not await self._store.count_use(connection, token.organisation_id, token.id, now):
            raise TokenRefused(token.refusal_at(now) or "this enrollment token is unknown here", path="$.token")
        agent_id = await self._agents.register(
            connection,
            organisation_id=token.organisation_id,
            hostname=request.sysinfo.hostname,
            sysinfo=request.sysinfo.as_frame_body(),
            agent_version=request.agent_version,
            boot_id=request.boot_id,
            site=token.site,
            tags=token.tags,
        )
        certificate = await self._certificates.issue(connection, token.organisation_id, agent_id, request.csr_pem)
        use = TokenUse(
            token_id=token.id,
            public_key_sha256=key,
            organisation_id=token.organisation_id,
            agent_id=agent_id,
            certificate_serial=certificate.serial,
            used_at=now,
        )
        await self._store.add_use(connection, token.organisation_id, use)
        await record(
            connection,
            organisation_id=token.organisation_id,
            at=now,
            actor=f"token:{token.id}",
            action="agents:enroll",
            target=f"agent:{agent_id}",
            detail={"hostname": request.sysinfo.hostname, "address": address, "serial": certificate.serial},
        )
        return certificate, True

    async def _repeated(
        self, connection: AsyncConnection, token: StoredToken, earlier: TokenUse, now: datetime
    ) -> Certificate:
        certificate = await self._certificates.find(connection, token.organisation_id, earlier.certificate_serial)
        if certificate is None or token.revoked_at is not None or now - earlier.used_at > REPEAT_WINDOW:
            raise TokenRefused(
                "this enrollment token was used already by this very machine; ask for a new one", path="$.token"
            )
        return certificate
