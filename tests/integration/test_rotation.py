"""A small fleet through two rotations of the issuing CA and one of the signer; `prove trust` has 200 agents."""

from __future__ import annotations

from pathlib import Path

from protocol.enumerations import AuthorityUse
from scripts.proofs.trust.rotation import Site, lived_through
from tests.integration.hub import running_hub

AGENTS = 8
PKI = {
    "agent_certificate_seconds": 20,
    "server_certificate_seconds": 20,
    "overlap_seconds": 2,
    "issuing_seconds": 600,
}


async def test_a_fleet_lives_through_rotations_and_loses_no_session_and_no_job(folder: Path) -> None:
    async with running_hub(folder / "hub", pki=PKI) as hub:

        async def rotate(use: str) -> None:
            await hub.authority.refresh()
            await hub.authority.rotate(AuthorityUse(use), actor="test")  # type: ignore[arg-type]

        join_string = f"jtnt://127.0.0.1:{hub.agent_url.rpartition(':')[2]}/#{await hub.mint(uses=AGENTS)}"
        site = Site(hub.web_url, int(hub.agent_url.rpartition(":")[2]), await hub.sign_in(), join_string, rotate)
        said = await lived_through(site, folder / "agents", AGENTS)
    assert said.startswith(f"{AGENTS} agents")
