"""Connections of dashboards that the hub ends by itself, and that cannot hold it up."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
import pytest

from hub_server.gateway.dashboards import server
from tests.integration.hub import RunningHub
from tests.integration.person import watching

CUT_DEADLINE_SECONDS: Final = 30.0


async def test_a_connection_that_never_signs_in_is_ended_and_those_that_did_go_on(
    hub: RunningHub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SIGN_IN_TIMEOUT_SECONDS", 0.2)
    address = f"{hub.web_url}/ws/agents/?EIO=4&transport=websocket"
    async with watching(hub, token) as person, aiohttp.ClientSession() as session:
        async with session.ws_connect(address) as stranger, asyncio.timeout(CUT_DEADLINE_SECONDS):
            assert (await stranger.receive_str()).startswith("0")
            while not stranger.closed:
                await stranger.receive()
        assert (await person.ask("agents:list"))["ok"]
