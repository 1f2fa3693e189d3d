"""An enrollment service on a real database, with real certificates and a small fleet."""

import base64
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.access.quotas import Quotas
from hub_server.access.tables import OrganisationRow
from hub_server.audit.tables import AuditRow
from hub_server.bus.in_process import InProcessBus
from hub_server.commands.store import CommandStore
from hub_server.enrollment.service import EnrollmentService
from hub_server.enrollment.tables import EnrollmentTokenRow
from hub_server.fleet.model import Agent
from hub_server.fleet.store import FleetStore
from hub_server.fleet.tables import AgentRow
from hub_server.pki.authority import Authority
from hub_server.pki.service import CertificateService
from hub_server.pki.tables import CertificateRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.vault import Vault
from protocol.enrollment import (
    EnrollmentSystemInformation,
    EnrollPending,
    EnrollReply,
    EnrollRequest,
    RecoverRequest,
    RegisterRequest,
    recovery_statement,
)
from protocol.enumerations import AgentTrust, Role
from protocol.frames import SystemInformation
from protocol.joining import ApprovalsList, ApprovalView, TokensCreate, TokensCreateReply
from tests.certificates import LeafKey, csr_of, ed25519_key
from tests.clocks import FakeClock
from tests.job_keys import JobKeysHere

HOME = "198.51.100.7"


class Fleet:
    """Registers agents as the fleet does: a row each."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self._database = database
        self._clock = clock
        self._store = FleetStore()

    async def find(self, organisation_id: str, agent_id: str) -> Agent | None:
        async with self._database.read(organisation_id) as connection:
            return await self._store.find(connection, organisation_id, agent_id)

    async def reload(self, organisation_id: str, agent_id: str) -> None:
        """The hub's fleet reads the agent again; these tests read the database."""

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
        agent_id = str(uuid.uuid4())
        await connection.execute(
            insert(AgentRow).values(
                id=agent_id,
                organisation_id=organisation_id,
                hostname=hostname,
                name=hostname,
                os_type=sysinfo.os,
                os_version=sysinfo.os_version,
                ip_addresses=sysinfo.ip_addresses,
                agent_version=agent_version,
                boot_id=boot_id,
                site=site,
                tags=tags,
                enrolled_at=self._clock.now(),
            )
        )
        return agent_id


@dataclass(frozen=True)
class Desk:
    """What an enrollment test needs at hand."""

    enrollment: EnrollmentService
    certificates: CertificateService
    authority: Authority
    database: Database
    principal: Principal
    clock: FakeClock

    async def enrolled(self, request: EnrollRequest, address: str = HOME) -> EnrollReply:
        """Enroll, and get in at once."""
        reply = await self.enrollment.enroll(request, address)
        assert isinstance(reply, EnrollReply)
        return reply

    async def queued(self, request: EnrollRequest, address: str = HOME) -> EnrollPending:
        reply = await self.enrollment.enroll(request, address)
        assert isinstance(reply, EnrollPending)
        return reply

    async def waiting(self, **changes: Any) -> list[ApprovalView]:
        """Return who waits; `state` chooses others."""
        page = await self.enrollment.list_approvals(self.principal, ApprovalsList(**changes))
        assert page.total == len(page.approvals)
        return page.approvals

    async def distrust(self, agent_id: str, trust: AgentTrust) -> None:
        async with self.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(update(AgentRow).where(col(AgentRow.id) == agent_id).values(trust=trust.value))

    async def other_organisation(self) -> Principal:
        """Return an administrator of another organisation."""
        other = str(uuid.uuid4())
        async with self.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(insert(OrganisationRow).values(id=other, name=other, created_at=self.clock.now()))
        return msgspec.structs.replace(self.principal, organisation_id=other)

    async def bound_agents(self, most: int) -> None:
        async with self.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(update(OrganisationRow).values(max_agents=most))

    async def audited(self) -> list[tuple[str, str, str]]:
        """Return (actor, action, target) of the organisation's audit rows, oldest first."""
        of_organisation = col(AuditRow.organisation_id) == self.principal.organisation_id
        async with self.database.read(EVERY_ORGANISATION) as connection:
            rows = await connection.execute(select(AuditRow).where(of_organisation).order_by(col(AuditRow.number)))
        return [(row.actor, row.action, row.target) for row in rows]

    async def token(self, request: TokensCreate | None = None) -> TokensCreateReply:
        return await self.enrollment.create_token(self.principal, request or TokensCreate())

    async def counts(self) -> dict[str, int]:
        """Return how many uses, agents, certificates and enrollments in the audit there are."""
        async with self.database.read(EVERY_ORGANISATION) as connection:
            used = await connection.scalar(select(func.coalesce(func.sum(EnrollmentTokenRow.used), 0)))
            agents = await connection.scalar(select(func.count()).select_from(AgentRow))
            certificates = await connection.scalar(select(func.count()).select_from(CertificateRow))
            audited = await connection.scalar(select(func.count()).where(col(AuditRow.action) == "agents:enroll"))
        return {
            "used": int(used or 0),
            "agents": agents or 0,
            "certificates": certificates or 0,
            "audited": audited or 0,
        }


@pytest.fixture
def principal(organisation_id: str) -> Principal:
    return Principal(user_id="u-1", username="ada", organisation_id=organisation_id, role=Role.ORG_ADMIN)


@pytest.fixture
async def authority(database: Database, clock: FakeClock, tmp_path: Path) -> Authority:
    return await Authority.open_or_create(
        database,
        Vault.generate(),
        job_keys=JobKeysHere(tmp_path / "signer.key"),
        directory=tmp_path / "pki",
        trust_domain="jtnt",
        clock=clock,
    )


@pytest.fixture
async def desk(
    database: Database, bus: InProcessBus, clock: FakeClock, authority: Authority, principal: Principal
) -> Desk:
    return desk_on(database, bus, clock, authority, principal)


@pytest.fixture
async def desk_without_recovery(
    database: Database, bus: InProcessBus, clock: FakeClock, authority: Authority, principal: Principal
) -> Desk:
    return desk_on(database, bus, clock, authority, principal, recovers=False)


def desk_on(
    database: Database,
    bus: InProcessBus,
    clock: FakeClock,
    authority: Authority,
    principal: Principal,
    *,
    recovers: bool = True,
) -> Desk:
    certificates = CertificateService(database, authority, clock, lock_trust=FleetStore().lock_trust)
    enrollment = EnrollmentService(
        database=database,
        bus=bus,
        clock=clock,
        certificates=certificates,
        anchor=authority,
        agents=Fleet(database, clock),
        quotas=Quotas(agents=FleetStore().counts, open_commands=CommandStore().open_counts),
        join_host="hub.example",
        join_port=3001,
        websocket_url="wss://hub.example:3001/ws/agents",
        next_heartbeat_seconds=30,
        recovers=recovers,
    )
    return Desk(enrollment, certificates, authority, database, principal, clock)


def request_of(token: str, csr_pem: str = "", hostname: str = "web-01") -> EnrollRequest:
    """A request as an agent sends it, with a key of its own."""
    return EnrollRequest(
        token=token,
        csr_pem=csr_pem or csr_of(ed25519_key()),
        agent_version="0.1.0",
        boot_id="boot-1",
        sysinfo=EnrollmentSystemInformation(hostname=hostname, os="linux"),
    )


def registration_of(csr_pem: str = "", hostname: str = "web-01") -> RegisterRequest:
    """A request as seed 004's program sends it, with the key of its machine."""
    return RegisterRequest(
        hostname=hostname,
        os_type="linux",
        os_version="Ubuntu 22.04",
        ip_address="192.168.1.100",
        agent_version="1.0.0",
        config={"collection_interval": 60, "metrics_enabled": True},
        csr_pem=csr_pem or csr_of(ed25519_key()),
    )


def recovery_of(desk: Desk, certificate_pem: str, old: LeafKey, new: LeafKey, **changes: Any) -> RecoverRequest:
    """A request as an agent with the key `old` of an expired certificate sends it; `changes` are made unsigned."""
    csr_pem, at = csr_of(new), int(desk.clock.now().timestamp() * 1000)
    fields: dict[str, Any] = {
        "certificate_pem": certificate_pem,
        "csr_pem": csr_pem,
        "signed_at_ms": at,
        "signature": signature_by(old, recovery_statement("jtnt", csr_pem, at)),
        "agent_version": "0.1.0",
        "boot_id": "boot-1",
    }
    return RecoverRequest(**{**fields, **changes})


def signature_by(key: LeafKey, statement: bytes) -> str:
    raw = key.sign(statement) if isinstance(key, Ed25519PrivateKey) else key.sign(statement, ECDSA(SHA256()))
    return base64.b64encode(raw).decode()
