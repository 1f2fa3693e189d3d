"""Peers that are slow or say nothing cost the others nothing."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from hub_server.gateway.agents import endpoint
from tests.integration.hub import RunningHub, running_hub
from tests.integration.machine import connected, enroll, greeted

SOON_SECONDS = 3.0


async def test_who_never_shakes_hands_keeps_nobody_out(folder: Path) -> None:
    limits = {"handshakes_at_once": 4, "handshake_timeout_seconds": 30.0}
    async with running_hub(folder / "hub", agents=limits) as hub:
        identity = await enroll(hub, folder)
        host, port = hub.agent_url.removeprefix("https://").split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        try:
            async with asyncio.timeout(SOON_SECONDS), greeted(hub, identity):
                pass
        finally:
            for _, writer in silent:
                writer.close()


async def test_a_handshake_that_does_not_go_on_is_ended(folder: Path) -> None:
    async with running_hub(folder / "hub", agents={"handshake_timeout_seconds": 0.3, "handshakes_at_once": 1}) as hub:
        host, port = hub.agent_url.removeprefix("https://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(SOON_SECONDS):
            assert await reader.read() == b""
        writer.close()
        identity = await enroll(hub, folder)
        async with asyncio.timeout(SOON_SECONDS), greeted(hub, identity):
            pass


async def test_an_agent_that_says_no_hello_is_ended_at_its_deadline(
    hub: RunningHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "HELLO_TIMEOUT_SECONDS", 0.4)
    identity = await enroll(hub, folder)
    started = asyncio.get_running_loop().time()
    async with connected(hub, identity.tls()) as agent:
        assert (await agent.ended())[0] == 4408
    assert asyncio.get_running_loop().time() - started >= 0.4


async def test_a_new_certificate_of_the_peoples_listener_is_shown_without_a_restart(folder: Path) -> None:
    """Connections that are open go on; a file that cannot be used changes nothing."""
    pem = folder / "web.pem"
    first, second = trustme.CA(), trustme.CA()
    first.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    async with running_hub(folder / "hub", people={"certificate": pem, "key": pem}) as hub:
        port = int(hub.web_url.rsplit(":", 1)[1])
        reader, writer = await _opened(first, port)
        pem.write_text("no certificate")
        _, other = await _opened(first, port)
        second.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
        _, third = await _opened(second, port)
        with pytest.raises(ssl.SSLError):
            await _opened(first, port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for each in (writer, other, third):
            each.close()


async def _opened(authority: trustme.CA, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return await asyncio.open_connection("localhost", port, ssl=context)
