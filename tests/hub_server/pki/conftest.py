"""An authority of the present time: real TLS handshakes judge certificates by the machine's clock."""

from pathlib import Path

import pytest

from hub_server.pki.authority import Authority
from tests.authorities import authority_in


@pytest.fixture
async def authority(tmp_path: Path) -> Authority:
    return await authority_in(tmp_path)
