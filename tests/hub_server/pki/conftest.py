"""An authority of the present time: real TLS handshakes judge certificates by the machine's clock."""

from pathlib import Path

import pytest

from hub_server.clock import SystemClock
from hub_server.pki.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open_or_create(tmp_path / "pki", trust_domain="jtnt", clock=SystemClock())
