"""What joining needs of other subjects."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.enumerations import AgentTrust
from protocol.envelope import SignedTrust
from protocol.frames import SystemInformation


class Member(Protocol):
    """What recovery needs to know of an agent."""

    @property
    def hostname(self) -> str: ...
    @property
    def os_type(self) -> str: ...
    @property
    def site(self) -> str: ...
    @property
    def tags(self) -> list[str]: ...
    @property
    def trust(self) -> AgentTrust: ...


class Agents(Protocol):
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

    async def find(self, organisation_id: str, agent_id: str) -> Member | None: ...


class Certificate(Protocol):
    """What enrollment needs to know of an issued certificate. `pem`: leaf, then issuing CA."""

    @property
    def organisation_id(self) -> str: ...
    @property
    def agent_id(self) -> str: ...
    @property
    def serial(self) -> str: ...
    @property
    def issuer(self) -> str: ...
    @property
    def pem(self) -> str: ...
    @property
    def public_key_sha256(self) -> bytes: ...
    @property
    def replaces(self) -> str | None: ...
    @property
    def not_after(self) -> datetime: ...


class OldCertificate(Protocol):
    """A certificate that still says who somebody was."""

    @property
    def certificate(self) -> Certificate: ...


class Certificates(Protocol):
    """Whoever issues certificates."""

    def key_sha256_of(self, csr_pem: str) -> bytes:
        """Return the SHA-256 of the public key that the CSR proves possession of. Raises InvalidRequest."""

    async def issue(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, csr_pem: str
    ) -> Certificate:
        """Issue within the caller's transaction. Raises KeyInUse."""

    async def recover_issue(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, csr_pem: str, *, replaces: str
    ) -> Certificate:
        """Issue in place of the certificate `replaces`. Raises Forbidden, NotFound, KeyInUse."""

    async def find(self, connection: AsyncConnection, organisation_id: str, serial: str) -> Certificate | None:
        """Return an issued certificate unless it was revoked."""

    async def recoverable(self, connection: AsyncConnection, serial: str) -> OldCertificate | None:
        """Return a certificate, of any organisation, that is neither revoked nor superseded; expired or not."""

    def note_issued(
        self,
        *,
        serial: str,
        agent_id: str,
        public_key_sha256: bytes,
        issuer: str,
        expires_at: datetime,
        replaces: str | None = None,
    ) -> None:
        """The certificate's transaction is committed."""


class Anchor(Protocol):
    """What a new agent is told to trust: the hub's authority. Each is read when it is needed: rotation changes it."""

    @property
    def trust_domain(self) -> str: ...
    @property
    def ca_bundle_pem(self) -> str: ...
    @property
    def trust(self) -> SignedTrust: ...
    @property
    def root_pin(self) -> bytes: ...


class Quotas(Protocol):
    async def check_agents(self, connection: AsyncConnection, organisation_id: str) -> None:
        """Raises QuotaReached when the organisation may not have one agent more."""
