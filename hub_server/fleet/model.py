"""An agent as the hub knows it, and the desired state that follows from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from protocol.desired import AgentConfig
from protocol.enumerations import AgentTrust
from protocol.frames import SystemInformation
from protocol.operations import Thresholds


class Agent(Struct, frozen=True, kw_only=True):
    """One machine of an organisation (seed 004, "Agent")."""

    id: str
    organisation_id: str
    hostname: str
    name: str
    site: str
    tags: list[str]
    os_type: str
    os_version: str
    arch: str
    cpu_count: int
    memory_total_bytes: int
    ip_addresses: list[str]
    agent_version: str
    boot_id: str
    config: AgentConfig
    thresholds: Thresholds
    applied_config_hash: str
    enrolled_at: datetime
    trust: AgentTrust = AgentTrust.TRUSTED
    trust_reason: str = ""

    @property
    def config_hash(self) -> str:
        return hash_of(self.config)

    @property
    def config_applied(self) -> bool:
        return self.applied_config_hash == self.config_hash


TRUST_STEPS: Final[Mapping[AgentTrust, frozenset[AgentTrust]]] = {
    AgentTrust.TRUSTED: frozenset({AgentTrust.QUARANTINED, AgentTrust.REVOKED}),
    AgentTrust.QUARANTINED: frozenset({AgentTrust.TRUSTED, AgentTrust.REVOKED}),
    AgentTrust.REVOKED: frozenset(),  # its certificates are gone: only enrolling makes a new agent
}
"""How an agent stands → how it may stand next."""


def hash_of(body: Struct) -> str:
    """Return the name under which a desired state travels: SHA-256 of its JSON."""
    return hashlib.sha256(msgspec.json.encode(body)).hexdigest()


def with_system_information(agent: Agent, sysinfo: SystemInformation) -> Agent:
    """Return `agent` as its machine now describes itself; a name that people never changed follows the host name."""
    return msgspec.structs.replace(
        agent,
        hostname=sysinfo.hostname,
        name=sysinfo.hostname if agent.name == agent.hostname else agent.name,
        os_type=sysinfo.os,
        os_version=sysinfo.os_version,
        arch=sysinfo.arch,
        cpu_count=sysinfo.cpu_count,
        memory_total_bytes=sysinfo.memory_total_bytes,
        ip_addresses=sysinfo.ip_addresses,
    )
