"""How many sockets a sign-in or a key may open, and what is left of one that goes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
from aiohttp import ClientSession
from socketio import AsyncServer

from hub_server.access.service import AccessService
from hub_server.access.standings import Session
from hub_server.gateway.dashboards import server
from hub_server.gateway.dashboards.live_feed import LiveFeed
from hub_server.gateway.dashboards.server import Client, DashboardServer
from hub_server.gateway.faults import refusal_of as refusal_by_table
from protocol.enumerations import Role
from tests.integration.hub import RunningHub, running_hub
from tests.integration.person import Json, Person, refusal_of, watching

DEADLINE_SECONDS: Final = 60.0


async def test_a_persons_client_leaves_ctrl_c_to_others(person: Person) -> None:
    """A later test that raises one in this process means nobody here."""
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


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
    hub: RunningHub, token: str, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`person` watches without a subscription all the while, as the one that goes did."""
    assert not person.gone.is_set()
    loop, begun, refused = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    is_gone_there = asyncio.Event()
    feeds: list[LiveFeed] = []
    forget, refusal = DashboardServer._forget, refusal_by_table

    async def hear_late(dashboards: DashboardServer) -> None:
        feeds.append(dashboards._feed)
        loop.call_soon_threadsafe(begun.set)
        await is_gone_there.wait()

    def forgotten(dashboards: DashboardServer, socket_id: str) -> Client | None:
        is_gone_there.set()
        return forget(dashboards, socket_id)

    def told(error: Exception) -> Json:
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
    assert (feeds[0].view_count, feeds[0].watcher_count) == (0, 0)


async def test_a_network_that_shows_bad_keys_is_told_to_wait(folder: Path) -> None:
    async with running_hub(folder) as own, watching(own, await own.sign_in()) as person:
        good = (await person.do("api-keys:create", name="report", role="viewer"))["keyText"]
        refusals = [await refusal_of(own, {"token": "jtntk_unknown.key"}) for _ in range(10)]
        assert {refusal["data"]["code"] for refusal in refusals} == {"unauthenticated"}
        refusal = await refusal_of(own, {"token": good})
        assert (refusal["message"], refusal["data"]["code"]) == ("rate_limited", "rate_limited")
        assert "try again in" in refusal["data"]["message"]
        async with watching(own, await own.sign_in()):
            pass


async def posted(session: ClientSession, query: Mapping[str, str], packet: str) -> None:
    async with session.post("/ws/agents/", params=query, data=packet) as answer:
        await answer.read()


async def test_a_socket_that_goes_while_it_is_let_in_is_not_kept(
    hub: RunningHub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, begun, welcomed = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    is_gone_there = asyncio.Event()
    kept: list[str] = []
    admit, welcome, ended = AccessService.admit, DashboardServer._welcome, AsyncServer._handle_eio_disconnect

    async def admit_late(access: AccessService, text: str, address: str) -> Session:
        loop.call_soon_threadsafe(begun.set)
        await is_gone_there.wait()
        return await admit(access, text, address)

    async def noted(dashboards: DashboardServer, socket_id: str, environ: Json, auth: object) -> None:
        dashboards._server.eio.on("disconnect", gone_of(dashboards))
        try:
            await welcome(dashboards, socket_id, environ, auth)
        finally:
            kept.extend(name for name in dashboards._clients if name == socket_id)
            dashboards._server.eio.on("disconnect", dashboards._server._handle_eio_disconnect)
            loop.call_soon_threadsafe(welcomed.set)

    def gone_of(dashboards: DashboardServer) -> Callable[[str, str], Awaitable[None]]:
        async def gone(engine_id: str, reason: str) -> None:
            await ended(dashboards._server, engine_id, reason)
            is_gone_there.set()

        return gone

    monkeypatch.setattr(AccessService, "admit", admit_late)
    monkeypatch.setattr(DashboardServer, "_welcome", noted)
    query = {"EIO": "4", "transport": "polling"}
    async with asyncio.timeout(DEADLINE_SECONDS), hub.people() as session, asyncio.TaskGroup() as tasks:
        async with session.get("/ws/agents/", params=query) as answer:
            query["sid"] = json.loads((await answer.text())[1:])["sid"]
        tasks.create_task(posted(session, query, '40{"token":"' + token + '"}'))
        await begun.wait()
        await posted(session, query, "1")  # engine.io's close
        await welcomed.wait()
    assert not kept
