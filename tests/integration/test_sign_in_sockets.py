"""How many sockets a sign-in or a key may open, and what is left of one that goes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import pytest

from hub_server.gateway.dashboards import server
from hub_server.gateway.dashboards.server import Client, DashboardServer
from protocol.enumerations import Role
from protocol.requests import Refusal
from tests.integration.hub import RunningHub
from tests.integration.person import Person, refusal_of, watching

DEADLINE_SECONDS: Final = 10.0


async def test_a_person_and_a_key_have_a_bound_of_sockets_each(
    hub: RunningHub, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SOCKETS_EACH_MAX", 3)
    await hub.add_user("collector", Role.ORG_ADMIN)
    tokens = [await hub.sign_in("collector") for _ in range(2)]
    async with AsyncExitStack() as stack:
        first, *_ = [await stack.enter_async_context(watching(hub, tokens[number % 2])) for number in range(3)]
        key = (await first.do("api-keys:create", name="report", role="viewer"))["keyText"]
        for _ in range(3):
            await stack.enter_async_context(watching(hub, key))
        for token, holder in ((tokens[0], "you have"), (tokens[1], "you have"), (key, "this API key has")):
            refusal = await refusal_of(hub, {"token": token})
            assert (refusal["message"], refusal["data"]["code"]) == ("unavailable", "unavailable")
            assert refusal["data"]["message"] == f"{holder} 3 open connections, no more are allowed: close some first"
        async with watching(hub, await hub.sign_in()):
            pass
    async with watching(hub, tokens[0]), watching(hub, key):
        pass


async def test_an_operation_of_a_socket_that_goes_meanwhile_is_refused_and_leaves_no_view(
    hub: RunningHub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, begun, refused = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    is_gone_there, feeds = asyncio.Event(), []
    forget, refusal = DashboardServer._forget, server.refusal_of

    async def hear_late(dashboards: DashboardServer) -> None:
        feeds.append(dashboards._feed)
        loop.call_soon_threadsafe(begun.set)
        await is_gone_there.wait()

    def forgotten(dashboards: DashboardServer, socket_id: str) -> Client | None:
        is_gone_there.set()
        return forget(dashboards, socket_id)

    def told(error: Exception) -> Refusal:
        loop.call_soon_threadsafe(refused.set)
        return refusal(error)

    async with watching(hub, token) as leaving:
        monkeypatch.setattr(DashboardServer, "_hear_news", hear_late)
        monkeypatch.setattr(DashboardServer, "_forget", forgotten)
        monkeypatch.setattr(server, "refusal_of", told)
        await leaving.client.emit("feed:subscribe", {})
        async with asyncio.timeout(DEADLINE_SECONDS):
            await begun.wait()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await refused.wait()
    assert (feeds[0]._views, feeds[0]._watchers) == ({}, {})
