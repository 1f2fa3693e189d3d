"""The hub's keys as the settings say, for the hub itself and for commands beside it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from hub_server.clock import Clock
from hub_server.config import Settings
from hub_server.pki.authority import Authority
from hub_server.pki.engine import Lifetimes
from hub_server.signing.model import Terms
from hub_server.signing.service import Signer
from hub_server.storage.engine import Database
from hub_server.storage.vault import Vault
from protocol.limits import COMMAND_EXPIRY_MAX_SECONDS

SIGNER_KEY: Final = "signer.key"
SIGNER_LOG: Final = "signer.log"


async def open_authority(
    settings: Settings, database: Database, vault: Vault, clock: Clock, signer: Signer
) -> Authority:
    """Return the authority of a migrated database, made where there is none. Raises KeysRefused, OSError."""
    return await Authority.open_or_create(
        database,
        vault,
        job_keys=signer,
        directory=settings.pki_dir,
        trust_domain=settings.pki.trust_domain,
        clock=clock,
        lifetimes=lifetimes_of(settings),
    )


def signer_of(settings: Settings) -> Signer:
    """Return the way to the signer; the process is started when it is first asked."""
    signer = settings.signer
    terms = Terms(
        key_file=str((signer.key_file or settings.data_dir / SIGNER_KEY).absolute()),
        log_file=str((signer.log_file or settings.data_dir / SIGNER_LOG).absolute()),
        per_second=signer.per_second,
        burst=signer.burst,
        organisations=list(signer.organisations),
    )
    return Signer(terms, listens_at=signer.socket)


def lifetimes_of(settings: Settings) -> Lifetimes:
    pki = settings.pki
    return Lifetimes(
        agent_certificate=timedelta(seconds=pki.agent_certificate_seconds),
        server_certificate=timedelta(seconds=pki.server_certificate_seconds),
        issuing=timedelta(seconds=pki.issuing_seconds),
        signer=timedelta(seconds=pki.signer_seconds),
        overlap=timedelta(seconds=pki.overlap_seconds),
        job=timedelta(seconds=COMMAND_EXPIRY_MAX_SECONDS),
    )


def round_seconds_of(settings: Settings) -> float:
    """Return how often keys are looked after: every minute, and oftener than the shortest of their times ends."""
    pki = settings.pki
    shortest = min(pki.overlap_seconds / 4, pki.server_certificate_seconds / 12, pki.issuing_seconds / 24)
    return max(0.2, min(60.0, shortest))
