"""How a machine gets in for a token or an organisation key, inside one transaction of the caller's.

The use is counted, the agent registered, the certificate issued and the audit row written together, or none of it. A
token that needs approval is counted when its machine is put into the queue, so that a leaked one cannot fill it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.record import record
from hub_server.enrollment.approvals import ApprovalQueue, turned_away
from hub_server.enrollment.engine import Fetched, Lapsed, LetIn, NotAsked, TurnedAway, Waiting, answer_to
from hub_server.enrollment.model import Approval, CredentialUse, StoredKey, StoredToken
from hub_server.enrollment.ports import Agents, Certificate, Certificates, Quotas
from hub_server.enrollment.store import KeyStore, TokenStore
from hub_server.errors import TokenRefused
from protocol.enumerations import ApprovalKind
from protocol.frames import SystemInformation

REPEAT_WINDOW: Final = timedelta(minutes=10)
"""How long an answer that got lost may be asked for again."""


class Newcomer(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as it describes itself. `key`: SHA-256 of the public key of its CSR."""

    sysinfo: SystemInformation
    agent_version: str
    boot_id: str
    csr_pem: str
    key: bytes
    address: str


class Joined(NamedTuple):
    certificate: Certificate
    is_new: bool


class Queued(NamedTuple):
    approval: Approval


class Joining:
    def __init__(self, *, certificates: Certificates, agents: Agents, quotas: Quotas, queue: ApprovalQueue) -> None:
        self._certificates = certificates
        self._agents = agents
        self._quotas = quotas
        self._queue = queue
        self._tokens = TokenStore()
        self._keys = KeyStore()

    async def by_token(
        self, connection: AsyncConnection, proven: StoredToken, machine: Newcomer, now: datetime
    ) -> Joined | Queued:
        """Raises TokenRefused, Forbidden, KeyInUse, QuotaReached."""
        token = await self._tokens.find(connection, proven.id, lock=True) or proven
        earlier = await self._tokens.use_of(connection, token.organisation_id, token.id, machine.key)
        if earlier is not None:
            certificate = None if token.revoked_at is not None else await self._again(connection, earlier, now)
            if certificate is None:
                raise _used_by_itself()
            return Joined(certificate, is_new=False)
        if token.needs_approval:
            return await self._when_approved(connection, token, machine, now)
        await self._burn(connection, token, now)
        return Joined(await self._admitted(connection, token, machine, now), is_new=True)

    async def by_key(self, connection: AsyncConnection, proven: StoredKey, machine: Newcomer, now: datetime) -> Joined:
        """Raises TokenRefused, KeyInUse, QuotaReached."""
        key = await self._keys.find(connection, proven.id, lock=True) or proven
        if (refusal := key.refusal_at(now)) is not None:
            raise TokenRefused(refusal)
        earlier = await self._keys.use_of(connection, key.organisation_id, key.id, machine.key)
        if earlier is not None and (again := await self._again(connection, earlier, now)) is not None:
            return Joined(again, is_new=False)
        if not await self._keys.count_use(connection, key.organisation_id, key.id, now):
            raise TokenRefused("this organisation key is unknown here")
        await self._quotas.check_agents(connection, key.organisation_id)
        certificate = await self._registered(connection, key, machine)
        await self._keys.add_use(connection, key.organisation_id, _use(key, machine, certificate, now))
        await _note(connection, machine, certificate, now, f"organisation-key:{key.id}", "agents:register")
        return Joined(certificate, is_new=True)

    async def _when_approved(
        self, connection: AsyncConnection, token: StoredToken, machine: Newcomer, now: datetime
    ) -> Joined | Queued:
        wanted = self._queue.request(
            ApprovalKind.ENROLL,
            organisation_id=token.organisation_id,
            token_id=token.id,
            agent_id=None,
            public_key_sha256=machine.key,
            csr_pem=machine.csr_pem,
            hostname=machine.sysinfo.hostname,
            os=machine.sysinfo.os,
            address=machine.address,
            site=token.site,
            tags=token.tags,
            now=now,
        )
        stored = await self._queue.store.of_key(connection, token.organisation_id, machine.key)
        match answer_to(wanted, stored, now):
            case NotAsked(instead_of):
                await self._burn(connection, token, now)
                await self._quotas.check_agents(connection, token.organisation_id)
                await self._queue.put(connection, wanted, instead_of, f"token:{token.id}")
                return Queued(wanted)
            case TurnedAway(approval):
                raise turned_away(approval)
            case Lapsed(approval):
                raise TokenRefused(
                    f"nobody let this machine in until {approval.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new token",
                    path="$.token",
                )
            case Fetched():
                raise _used_by_itself()
            case Waiting(approval):
                _refuse_revoked(token, now)
                return Queued(approval)
            case LetIn(approval):
                _refuse_revoked(token, now)
                certificate = await self._admitted(connection, token, machine, now, approval)
                return Joined(certificate, is_new=True)

    async def _burn(self, connection: AsyncConnection, token: StoredToken, now: datetime) -> None:
        if not await self._tokens.count_use(connection, token.organisation_id, token.id, now):
            raise TokenRefused(token.refusal_at(now) or "this enrollment token is unknown here", path="$.token")

    async def _admitted(
        self,
        connection: AsyncConnection,
        token: StoredToken,
        machine: Newcomer,
        now: datetime,
        approval: Approval | None = None,
    ) -> Certificate:
        organisation_id = token.organisation_id
        await self._quotas.check_agents(connection, organisation_id)
        certificate = await self._registered(connection, token, machine)
        await self._tokens.add_use(connection, organisation_id, _use(token, machine, certificate, now))
        if approval is not None:
            fetched = msgspec.structs.replace(
                approval, agent_id=certificate.agent_id, certificate_serial=certificate.serial
            )
            await self._queue.store.change(connection, organisation_id, approval.id, fetched)
        await _note(connection, machine, certificate, now, f"token:{token.id}", "agents:enroll")
        return certificate

    async def _registered(
        self, connection: AsyncConnection, credential: StoredToken | StoredKey, machine: Newcomer
    ) -> Certificate:
        agent_id = await self._agents.register(
            connection,
            organisation_id=credential.organisation_id,
            hostname=machine.sysinfo.hostname,
            sysinfo=machine.sysinfo,
            agent_version=machine.agent_version,
            boot_id=machine.boot_id,
            site=credential.site,
            tags=credential.tags,
        )
        return await self._certificates.issue(connection, credential.organisation_id, agent_id, machine.csr_pem)

    async def _again(self, connection: AsyncConnection, earlier: CredentialUse, now: datetime) -> Certificate | None:
        """Return what the same key got before, None when that is too long ago or counts no more."""
        if now - earlier.used_at > REPEAT_WINDOW:
            return None
        return await self._certificates.find(connection, earlier.organisation_id, earlier.certificate_serial)


def _use(
    credential: StoredToken | StoredKey, machine: Newcomer, certificate: Certificate, now: datetime
) -> CredentialUse:
    return CredentialUse(
        credential_id=credential.id,
        public_key_sha256=machine.key,
        organisation_id=credential.organisation_id,
        agent_id=certificate.agent_id,
        certificate_serial=certificate.serial,
        used_at=now,
    )


def _used_by_itself() -> TokenRefused:
    return TokenRefused(
        "this enrollment token was used already by this very machine; ask for a new one", path="$.token"
    )


def _refuse_revoked(token: StoredToken, now: datetime) -> None:
    if token.revoked_at is not None:
        raise TokenRefused(token.refusal_at(now) or "", path="$.token")


async def _note(
    connection: AsyncConnection, machine: Newcomer, certificate: Certificate, at: datetime, actor: str, action: str
) -> None:
    await record(
        connection,
        organisation_id=certificate.organisation_id,
        at=at,
        actor=actor,
        action=action,
        target=f"agent:{certificate.agent_id}",
        detail={
            "hostname": machine.sysinfo.hostname,
            "address": machine.address,
            "serial": certificate.serial,
        },
    )
