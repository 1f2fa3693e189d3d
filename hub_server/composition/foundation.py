"""What every part of a hub stands on."""

from __future__ import annotations

from dataclasses import dataclass

from hub_server.bus.in_process import InProcessBus
from hub_server.clock import Clock
from hub_server.config import Settings
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.instruments import Instruments
from hub_server.pauses import PauseMeter
from hub_server.pki.authority import Authority
from hub_server.pki.listener import AgentsTls
from hub_server.storage.engine import Database
from hub_server.storage.vault import Vault
from hub_server.telemetry.port import MetricStore


@dataclass(frozen=True, slots=True)
class Foundation:
    """What every subject stands on."""

    settings: Settings
    clock: Clock
    database: Database
    authority: Authority
    vault: Vault
    metrics: MetricStore
    agents_tls: AgentsTls
    bus: InProcessBus
    registry: SessionRegistry
    instruments: Instruments
    pauses: PauseMeter
