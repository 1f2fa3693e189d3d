"""An enrollment service on a real database, with real certificates and a small fleet."""

import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.audit.tables import AuditRow
from hub_server.bus.in_process import InProcessBus
from hub_server.enrollment.service import EnrollmentService
from hub_server.enrollment.tables import EnrollmentTokenRow
from hub_server.fleet.tables import AgentRow
from hub_server.pki.authority import Authority
from hub_server.pki.service import CertificateService
from hub_server.pki.tables import CertificateRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enrollment import EnrollmentSystemInformation, EnrollRequest
from protocol.enumerations import Role
from protocol.frames import SystemInformation
from protocol.joining import TokensCreate, TokensCreateReply
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock

HOME = "198.51.100.7"


class Fleet:
    """Registers agents as the fleet does: a row each."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

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
def desk(database: Database, bus: InProcessBus, clock: FakeClock, tmp_path: Path, principal: Principal) -> Desk:
    authority = Authority.open_or_create(tmp_path / "pki", trust_domain="jtnt", clock=clock)
    certificates = CertificateService(database, authority, clock)
    enrollment = EnrollmentService(
        database=database,
        bus=bus,
        clock=clock,
        certificates=certificates,
        anchor=authority,
        agents=Fleet(clock),
        join_host="hub.example",
        join_port=3001,
        websocket_url="wss://hub.example:3001/ws/agents",
        next_heartbeat_seconds=30,
    )
    return Desk(enrollment, certificates, authority, database, principal)


def request_of(token: str, csr_pem: str = "", hostname: str = "web-01") -> EnrollRequest:
    """A request as an agent sends it, with a key of its own."""
    return EnrollRequest(
        token=token,
        csr_pem=csr_pem or csr_of(ed25519_key()),
        agent_version="0.1.0",
        boot_id="boot-1",
        sysinfo=EnrollmentSystemInformation(hostname=hostname, os="linux"),
    )
