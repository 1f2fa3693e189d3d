"""The hub's keys as the settings say, for the hub itself and for commands beside it."""

from __future__ import annotations

from datetime import timedelta

from hub_server.clock import Clock
from hub_server.commands.service import EXPIRY_SECONDS
from hub_server.config import Settings
from hub_server.pki.authority import Authority
from hub_server.pki.engine import Lifetimes
from hub_server.storage.engine import Database
from hub_server.storage.vault import Vault


async def open_authority(settings: Settings, database: Database, vault: Vault, clock: Clock) -> Authority:
    """Return the authority of a migrated database, made where there is none. Raises KeysRefused, OSError."""
    return await Authority.open_or_create(
        database,
        vault,
        directory=settings.pki_dir,
        trust_domain=settings.pki.trust_domain,
        clock=clock,
        lifetimes=lifetimes_of(settings),
    )


def lifetimes_of(settings: Settings) -> Lifetimes:
    pki = settings.pki
    return Lifetimes(
        agent_certificate=timedelta(seconds=pki.agent_certificate_seconds),
        server_certificate=timedelta(seconds=pki.server_certificate_seconds),
        issuing=timedelta(seconds=pki.issuing_seconds),
        signer=timedelta(seconds=pki.signer_seconds),
        overlap=timedelta(seconds=pki.overlap_seconds),
        job=timedelta(seconds=EXPIRY_SECONDS),
    )


def round_seconds_of(settings: Settings) -> float:
    """Return how often keys are looked after: every minute, and oftener than the shortest of their times ends."""
    pki = settings.pki
    shortest = min(pki.overlap_seconds / 4, pki.server_certificate_seconds / 12, pki.issuing_seconds / 24)
    return max(0.2, min(60.0, shortest))
