"""Peers that are slow or say nothing cost the others nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
