"""Who is not the hub that made a token never sees it: the agent looks at the pin first."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.identity import EnrollmentToken
from tests.authorities import authority_in
from tests.system.impostor import listening, own_bundle
from tests.system.programs import RealAgent

WRONG_HUB = 5


@pytest.mark.parametrize("shows", ["its own authority", "the true authority", "both"])
async def test_the_token_is_not_sent_to_an_impostor(tmp_path: Path, shows: str) -> None:
    true = await authority_in(tmp_path / "hub")
    own = own_bundle()
    bundle = {"its own authority": own, "the true authority": true.ca_bundle_pem, "both": own + true.ca_bundle_pem}
    token = EnrollmentToken.generate(true.root_pin)
    async with listening(bundle[shows]) as impostor:
        agent = RealAgent(tmp_path / "agent")
        outcome = await agent.enroll("--token", token.text, "--hub", f"https://localhost:{impostor.port}")
    assert outcome.code == WRONG_HUB, outcome.complained
    assert len(outcome.complained.strip().splitlines()) == 1
    assert b"GET /api/v1/agent/ca " in impostor.heard
    assert b"POST" not in impostor.heard
    assert token.text.encode() not in impostor.heard
    assert not (agent.folder / "config.json").exists()


async def test_a_token_of_another_hub_is_not_sent(tmp_path: Path) -> None:
    other = await authority_in(tmp_path / "other")
    token = EnrollmentToken.generate(bytes(16))
    async with listening(other.ca_bundle_pem) as impostor:
        agent = RealAgent(tmp_path / "agent")
        outcome = await agent.enroll("--token", token.text, "--hub", f"https://localhost:{impostor.port}")
    assert outcome.code == WRONG_HUB, outcome.complained
    assert b"POST" not in impostor.heard
