"""How machines join: by a one-time token, by an organisation's key, or back by the key of an expired certificate.

An answer that got lost may be asked for again: the same credential with the same key gives the same certificate for ten
minutes. Only attempts that fail to prove themselves count against an address, so that a whole site can join at once.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog

from hub_server.access.authorization import authorize
from hub_server.access.limits import AttemptLimits, network_of
from hub_server.access.model import Permission, Principal
from hub_server.bus.port import Bus
from hub_server.clock import Clock
from hub_server.enrollment.approvals import ApprovalDesk, ApprovalQueue
from hub_server.enrollment.joining import Joined, Joining, Newcomer, Queued
from hub_server.enrollment.keys import KeyDesk, OrganisationKey
from hub_server.enrollment.model import StoredKey, StoredToken
from hub_server.enrollment.ports import Agents, Anchor, Certificate, Certificates, Quotas
from hub_server.enrollment.recovery import Recovery
from hub_server.enrollment.store import KeyStore, TokenStore
from hub_server.enrollment.tokens import TokenDesk
from hub_server.errors import InvalidRequest, TokenRefused, Unauthenticated
from hub_server.events import AgentEnrolled
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.desired import AgentPolicy
from protocol.enrollment import (
    EnrollPending,
    EnrollReply,
    EnrollRequest,
    RecoverRequest,
    RegisterReply,
    RegisterRequest,
)
from protocol.enumerations import ApprovalState
from protocol.frames import SystemInformation
from protocol.identity import EnrollmentToken, MalformedIdentity, pins_match
from protocol.joining import (
    ApprovalReply,
    ApprovalsDecide,
    ApprovalsList,
    ApprovalsListReply,
    OrganisationKeysCreate,
    OrganisationKeysCreateReply,
    OrganisationKeysList,
    OrganisationKeysListReply,
    OrganisationKeysRevoke,
    OrganisationKeysRevokeReply,
    TokensCreate,
    TokensCreateReply,
    TokensList,
    TokensListReply,
    TokensRevoke,
    TokensRevokeReply,
)

POLL_AFTER_SECONDS: Final = 10
log = structlog.get_logger(component="enrollment")


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
        agents: Agents,
        quotas: Quotas,
        join_host: str,
        join_port: int,
        websocket_url: str,
        next_heartbeat_seconds: int,
        approval_days: int = 7,
        recovers: bool = True,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._certificates = certificates
        self._anchor = anchor
        self._agents = agents
        self._websocket_url = websocket_url
        self._next_heartbeat_seconds = next_heartbeat_seconds
        self._limits = AttemptLimits(clock)
        self._tokens = TokenDesk(
            database=database, clock=clock, root_pin=anchor.root_pin, join_host=join_host, join_port=join_port
        )
        self._keys = KeyDesk(database=database, clock=clock)
        queue = ApprovalQueue(timedelta(days=approval_days))
        self._approvals = ApprovalDesk(database=database, clock=clock, life=queue.life)
        self._joining = Joining(certificates=certificates, agents=agents, quotas=quotas, queue=queue)
        self._recovery = Recovery(
            database=database, certificates=certificates, agents=agents, anchor=anchor, queue=queue, is_enabled=recovers
        )

    # What machines ask. `address`: the peer's.

    async def enroll(self, request: EnrollRequest, address: str) -> EnrollReply | EnrollPending:
        """Let a machine join by its token.

        Raises TokenRefused, Forbidden when a person turned it away, InvalidRequest for the CSR, KeyInUse, QuotaReached,
        RateLimited; nothing is changed then.
        """
        with self._attempt(address):
            token = await self._token_of(request.token)
            machine = Newcomer(
                sysinfo=request.sysinfo.as_frame_body(),
                agent_version=request.agent_version,
                boot_id=request.boot_id,
                csr_pem=request.csr_pem,
                key=self._certificates.key_sha256_of(request.csr_pem),
                address=address,
            )
            async with self._database.write(token.organisation_id) as connection:
                outcome = await self._joining.by_token(connection, token, machine, self._clock.now())
        if isinstance(outcome, Joined):
            await self._entered(outcome, machine)
        return self._reply(outcome)

    async def key_of(self, key_text: str, address: str) -> StoredKey:
        """Return the organisation key that `key_text` is, before anything else is read of who sends it.

        Raises TokenRefused, RateLimited.
        """
        with self._attempt(address):
            try:
                presented = OrganisationKey.parse(key_text)
            except MalformedIdentity as error:
                raise TokenRefused(f"{error} as X-API-Key") from error
            async with self._database.read(EVERY_ORGANISATION) as connection:
                stored = await KeyStore().find(connection, presented.id)
            expected = bytes(32) if stored is None else stored.secret_sha256
            if not hmac.compare_digest(expected, presented.secret_sha256) or stored is None:
                raise TokenRefused("this organisation key is unknown here; ask for a new one")
            if (refusal := stored.refusal_at(self._clock.now())) is not None:
                raise TokenRefused(refusal)
        return stored

    async def register(self, key: StoredKey, request: RegisterRequest, address: str) -> RegisterReply:
        """Let a machine join by an organisation key that `key_of` returned.

        `config` of the request is what the machine was set to; what holds for it is the hub's own configuration, which
        it is offered on its socket. Raises what `enroll` raises.
        """
        machine = Newcomer(
            sysinfo=SystemInformation(
                hostname=request.hostname,
                os=request.os_type,
                os_version=request.os_version,
                ip_addresses=[request.ip_address] if request.ip_address else [],
            ),
            agent_version=request.agent_version,
            boot_id="",
            csr_pem=request.csr_pem,
            key=self._key_of_csr(request.csr_pem),
            address=address,
        )
        async with self._database.write(key.organisation_id) as connection:
            joined = await self._joining.by_key(connection, key, machine, self._clock.now())
        await self._entered(joined, machine)
        return RegisterReply(
            id=joined.certificate.agent_id,
            websocket_url=self._websocket_url,
            certificate_pem=joined.certificate.pem,
            ca_bundle_pem=self._anchor.ca_bundle_pem,
            trust=self._anchor.trust,
            policy=AgentPolicy(),
        )

    async def recover(self, request: RecoverRequest, address: str) -> EnrollReply | EnrollPending:
        """Give an agent back what its expired certificate gave it, once a person said yes.

        Raises Unauthenticated, Forbidden, InvalidRequest, KeyInUse, RateLimited; nothing is changed then.
        """
        with self._attempt(address):
            certificate = await self._recovery.proven(request, self._clock.now())
        proven = await self._recovery.member(certificate, request.csr_pem)
        async with self._database.write(certificate.organisation_id) as connection:
            outcome = await self._recovery.recovered(connection, proven, request.csr_pem, address, self._clock.now())
        if isinstance(outcome, Joined):
            self._note(outcome.certificate)
            log.info("agent recovered", agent_id=certificate.agent_id, address=address, is_repeated=not outcome.is_new)
        return self._reply(outcome)

    # What people ask.

    async def create_token(self, principal: Principal, request: TokensCreate) -> TokensCreateReply:
        organisation_id = authorize(principal, Permission.TOKENS_WRITE)
        return await self._tokens.mint(organisation_id, principal.actor, request)

    async def list_tokens(self, principal: Principal, request: TokensList) -> TokensListReply:
        return await self._tokens.page(authorize(principal, Permission.TOKENS_READ), request)

    async def revoke_token(self, principal: Principal, request: TokensRevoke) -> TokensRevokeReply:
        organisation_id = authorize(principal, Permission.TOKENS_WRITE)
        return await self._tokens.revoke(organisation_id, principal.actor, request)

    async def create_key(self, principal: Principal, request: OrganisationKeysCreate) -> OrganisationKeysCreateReply:
        organisation_id = authorize(principal, Permission.TOKENS_WRITE)
        return await self._keys.make(organisation_id, principal.actor, request)

    async def list_keys(self, principal: Principal, request: OrganisationKeysList) -> OrganisationKeysListReply:
        return await self._keys.page(authorize(principal, Permission.TOKENS_READ), request)

    async def revoke_key(self, principal: Principal, request: OrganisationKeysRevoke) -> OrganisationKeysRevokeReply:
        organisation_id = authorize(principal, Permission.TOKENS_WRITE)
        return await self._keys.revoke(organisation_id, principal.actor, request)

    async def list_approvals(self, principal: Principal, request: ApprovalsList) -> ApprovalsListReply:
        return await self._approvals.page(authorize(principal, Permission.TOKENS_READ), request)

    async def approve(self, principal: Principal, request: ApprovalsDecide) -> ApprovalReply:
        organisation_id = authorize(principal, Permission.APPROVALS_DECIDE)
        return await self._approvals.decide(organisation_id, principal.actor, request, ApprovalState.APPROVED)

    async def reject(self, principal: Principal, request: ApprovalsDecide) -> ApprovalReply:
        organisation_id = authorize(principal, Permission.APPROVALS_DECIDE)
        return await self._approvals.decide(organisation_id, principal.actor, request, ApprovalState.REJECTED)

    @contextmanager
    def _attempt(self, address: str) -> Iterator[None]:
        """Bound how often an address may fail in the block to prove that it may join. Raises RateLimited."""
        network = network_of(address)
        self._limits.check(network)
        try:
            yield
        except (TokenRefused, Unauthenticated) as refused:
            self._limits.spend_if_any(network)
            self._limits.note_bad(network)
            log.info("enrollment refused", address=address, why=refused.message)
            raise

    async def _token_of(self, text: str) -> StoredToken:
        """Return the token whose secret `text` holds. Raises TokenRefused."""
        try:
            presented = EnrollmentToken.parse(text)
        except MalformedIdentity as error:
            raise TokenRefused(str(error), path="$.token") from error
        if not pins_match(presented.pin, self._anchor.root_pin):
            raise TokenRefused("this enrollment token was made by another hub", path="$.token")
        async with self._database.read(EVERY_ORGANISATION) as connection:
            stored = await TokenStore().find(connection, presented.id)
        expected = bytes(32) if stored is None else stored.secret_sha256
        if not hmac.compare_digest(expected, presented.secret_sha256) or stored is None:
            raise TokenRefused("this enrollment token is unknown here; ask for a new one", path="$.token")
        return stored

    def _key_of_csr(self, csr_pem: str) -> bytes:
        """Return the SHA-256 of a camelCase body's public key. Raises InvalidRequest."""
        try:
            return self._certificates.key_sha256_of(csr_pem)
        except InvalidRequest as error:
            raise InvalidRequest(error.message.replace("csr_pem", "csrPem"), path="$.csrPem") from error

    async def _entered(self, joined: Joined, machine: Newcomer) -> None:
        """Tell the rest of the hub of a certificate whose transaction is committed."""
        certificate = joined.certificate
        self._note(certificate)
        if not joined.is_new:
            return
        await self._agents.reload(certificate.organisation_id, certificate.agent_id)
        log.info("agent enrolled", agent_id=certificate.agent_id, address=machine.address)
        self._bus.publish(
            AgentEnrolled(
                organisation_id=certificate.organisation_id,
                agent_id=certificate.agent_id,
                hostname=machine.sysinfo.hostname,
            )
        )

    def _note(self, certificate: Certificate) -> None:
        self._certificates.note_issued(
            serial=certificate.serial,
            agent_id=certificate.agent_id,
            public_key_sha256=certificate.public_key_sha256,
            issuer=certificate.issuer,
            expires_at=certificate.not_after,
            replaces=certificate.replaces,
        )

    def _reply(self, outcome: Joined | Queued) -> EnrollReply | EnrollPending:
        if isinstance(outcome, Queued):
            return EnrollPending(agent_id=outcome.approval.agent_id, poll_after_sec=POLL_AFTER_SECONDS)
        return EnrollReply(
            agent_id=outcome.certificate.agent_id,
            client_cert_pem=outcome.certificate.pem,
            ca_bundle_pem=self._anchor.ca_bundle_pem,
            trust=self._anchor.trust,
            policy=AgentPolicy(),
            websocket_url=self._websocket_url,
            next_heartbeat_sec=self._next_heartbeat_seconds,
        )
