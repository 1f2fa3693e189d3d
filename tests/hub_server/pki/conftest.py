"""An authority of the present time, for real TLS handshakes; and a certificate service on a driven clock."""

from pathlib import Path

import pytest

from hub_server.fleet.store import FleetStore
from hub_server.pki.authority import Authority
from hub_server.pki.service import CertificateService
from hub_server.storage.engine import Database
from tests.authorities import authority_in, authority_on
from tests.clocks import FakeClock
from tests.hub_server.pki.world import APART_SECONDS, World


@pytest.fixture
async def authority(tmp_path: Path) -> Authority:
    return await authority_in(tmp_path)


@pytest.fixture
async def world(database: Database, clock: FakeClock, organisation_id: str, tmp_path: Path) -> World:
    authority = await authority_on(database, tmp_path / "pki", clock=clock)
    certificates = CertificateService(
        database, authority, clock, lock_trust=FleetStore().lock_trust, renewals_apart_seconds=APART_SECONDS
    )
    return World(database, clock, authority, organisation_id, certificates)
