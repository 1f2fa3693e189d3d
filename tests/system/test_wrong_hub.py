"""Who is not the hub that made a token never sees it: the agent looks at the pin first."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from hub_server.clock import SystemClock
from hub_server.pki.authority import Authority
from protocol.identity import EnrollmentToken
from tests.system.programs import RealAgent

WRONG_HUB = 5


class Impostor:
    """Answers like a hub, with a bundle of its choice, and remembers every byte it was sent."""

    def __init__(self, bundle_pem: str) -> None:
        self._answer = json.dumps({"ca_bundle_pem": bundle_pem}).encode()
        self.heard = bytearray()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                self.heard += await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(self._answer), self._answer)
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(bundle_pem: str) -> AsyncIterator[Impostor]:
    impostor = Impostor(bundle_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(impostor.serve, "127.0.0.1", 0, ssl=context)
    async with server:
        impostor.port = server.sockets[0].getsockname()[1]
        yield impostor


@pytest.mark.parametrize("shows", ["its own authority", "the true authority", "both"])
async def test_the_token_is_not_sent_to_an_impostor(tmp_path: Path, shows: str) -> None:
    true = Authority.open_or_create(tmp_path / "pki", trust_domain="jtnt", clock=SystemClock())
    own = trustme.CA().cert_pem.bytes().decode()
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
    other = Authority.open_or_create(tmp_path / "other", trust_domain="jtnt", clock=SystemClock())
    token = EnrollmentToken.generate(bytes(16))
    async with listening(other.ca_bundle_pem) as impostor:
        agent = RealAgent(tmp_path / "agent")
        outcome = await agent.enroll("--token", token.text, "--hub", f"https://localhost:{impostor.port}")
    assert outcome.code == WRONG_HUB, outcome.complained
    assert b"POST" not in impostor.heard
