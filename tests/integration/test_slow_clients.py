"""Who has not proven who they are is bounded in number and in time; who has is not."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from hub_server.gateway import visitors
from hub_server.gateway.admission import SWEEP_SECONDS
from hub_server.gateway.visitors import LINGER_SECONDS, SWEPT_LATER_SECONDS
from tests.integration import slow
from tests.integration.hub import RunningHub, running_hub
from tests.integration.machine import connected, enroll, greeted
from tests.integration.person import watching

DEADLINE_SECONDS: Final = 0.8
IDLE_SECONDS: Final = 3.0
GRACE_SECONDS: Final = SWEEP_SECONDS + 1.0
PACE_SECONDS: Final = 0.1
LIMITS: Final[Mapping[str, Any]] = {
    "limits": {
        "headers_seconds": DEADLINE_SECONDS,
        "body_seconds": DEADLINE_SECONDS,
        "idle_seconds": IDLE_SECONDS,
        "connections": 24,
        "connections_per_address": 4,
    },
    "agents": {"handshake_timeout_seconds": DEADLINE_SECONDS},
}
PEOPLE: Final = {
    "says nothing": (slow.SILENT, 0.0),
    "slow headers": (slow.SLOW_HEADERS, 0.0),
    "endless headers": (slow.ENDLESS_HEADERS, 0.0),
    "idle": (slow.IDLE, IDLE_SECONDS - DEADLINE_SECONDS),
    "slow headers of a second request": (slow.SECOND_HEADERS, IDLE_SECONDS - DEADLINE_SECONDS),
    "slow body": (slow.SLOW_SIGN_IN, LINGER_SECONDS),
    "slow chunk": (slow.SLOW_CHUNK, LINGER_SECONDS),
    "body that nobody wants": (slow.UNWANTED_BODY, LINGER_SECONDS),
}
AGENTS: Final = {
    "slow headers": (slow.SLOW_HEADERS, 0.0),
    "idle": (slow.IDLE_AGENT, IDLE_SECONDS - DEADLINE_SECONDS),
    "slow body": (slow.SLOW_ENROLLMENT, LINGER_SECONDS),
    "body that nobody wants": (slow.UNWANTED_BODY, LINGER_SECONDS),
}
HANDSHAKES: Final = {
    "says nothing": (slow.SILENT, 0.0),
    "slow handshake": (slow.SLOW_HANDSHAKE, 0.0),
    "half a handshake": (slow.HALF_A_HANDSHAKE, 0.0),
}


@pytest.fixture(scope="module")
async def strict(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """A hub with short deadlines and narrow bounds."""
    async with running_hub(tmp_path_factory.mktemp("hub"), **LIMITS) as running:
        yield running


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


async def test_slow_clients_of_the_people_are_cut_in_time(strict: RunningHub) -> None:
    await assert_cut_in_time(PEOPLE, port_of(strict.web_url))


async def test_slow_clients_of_the_agents_are_cut_in_time(strict: RunningHub) -> None:
    tls = ssl.create_default_context(cadata=strict.authority.root_pem)
    await assert_cut_in_time(AGENTS, port_of(strict.agent_url), tls)


async def test_slow_handshakes_are_cut_in_time(strict: RunningHub) -> None:
    await assert_cut_in_time(HANDSHAKES, port_of(strict.agent_url))


async def assert_cut_in_time(
    clients: Mapping[str, tuple[slow.Slow, float]], port: int, tls: ssl.SSLContext | None = None
) -> None:
    async with asyncio.TaskGroup() as tasks:
        met = {
            what: tasks.create_task(client.met(port, f"127.3.9.{number}", tls=tls, pace_seconds=PACE_SECONDS))
            for number, (what, (client, _)) in enumerate(clients.items(), start=1)
        }
    seconds = {what: task.result().after_seconds for what, task in met.items()}
    early = {what: after for what, after in seconds.items() if after < DEADLINE_SECONDS * 0.9}
    latest = {what: DEADLINE_SECONDS + more_seconds + GRACE_SECONDS for what, (_, more_seconds) in clients.items()}
    late = {what: after for what, after in seconds.items() if after > latest[what]}
    assert (early, late) == ({}, {})


async def test_a_slow_body_of_a_socket_is_cut_in_time(strict: RunningHub) -> None:
    """engine.io reads it without a bound of its own."""
    async with aiohttp.ClientSession(strict.web_url) as http:
        sid = await session_id(http)
    post = f"POST /ws/agents/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\n".encode()
    parting = await slow.Slow(post + slow.LENGTH, b" ").met(port_of(strict.web_url), pace_seconds=PACE_SECONDS)
    latest = DEADLINE_SECONDS + SWEPT_LATER_SECONDS + LINGER_SECONDS + GRACE_SECONDS
    assert DEADLINE_SECONDS * 0.9 <= parting.after_seconds <= latest


async def test_who_does_not_read_the_answer_is_cut_in_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "ANSWER_SECONDS", DEADLINE_SECONDS)
    async with running_hub(folder / "hub") as hub:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, ("127.0.0.1", port_of(hub.web_url)))
            with suppress(ConnectionError):
                async with asyncio.timeout(DEADLINE_SECONDS + 60 * GRACE_SECONDS):
                    while True:
                        with suppress(BlockingIOError):
                            deaf.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
                        await asyncio.sleep(PACE_SECONDS)
        async with hub.people() as people, people.get("/metrics") as answer:
            assert 'jtnt_people_cut_total{stage="answer"} 1.0' in await answer.text()


async def holds(hub: RunningHub, listener: str, guests: int) -> None:
    """Return once the listener counts `guests`; whoever asks is one more of the people's."""
    counted = f"jtnt_{listener}_guests {guests + (listener == 'people'):.1f}\n"
    async with asyncio.timeout(DEADLINE_SECONDS), hub.people() as people:
        while True:
            async with people.get("/metrics") as answer:
                if counted in await answer.text():
                    return


async def test_an_address_that_holds_its_share_gets_no_more(strict: RunningHub) -> None:
    port = port_of(strict.web_url)
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(slow.SILENT.met(port, "127.3.0.1")) for _ in range(4)]
        await holds(strict, "people", len(held))
        refused = await slow.SILENT.met(port, "127.3.0.1")
        elsewhere = tasks.create_task(slow.SILENT.met(port, "127.3.0.2"))
    assert refused.after_seconds < DEADLINE_SECONDS / 2
    for client in (*held, elsewhere):
        assert client.result().after_seconds >= DEADLINE_SECONDS * 0.9


async def test_all_together_hold_so_many_and_no_more(strict: RunningHub) -> None:
    port = port_of(strict.agent_url)
    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(slow.SILENT.met(port, f"127.3.1.{1 + number // 4}")) for number in range(24)]
        await holds(strict, "agents", len(held))
        refused = await slow.SILENT.met(port, "127.3.1.200")
        async with strict.people() as people, people.get("/metrics") as answer:
            counted = await answer.text()
    assert refused.after_seconds < DEADLINE_SECONDS / 2
    assert all(client.result().after_seconds >= DEADLINE_SECONDS * 0.9 for client in held)
    assert 'jtnt_agents_refused_total{reason="full"} 1.0' in counted
    assert "jtnt_agents_guests 24.0" in counted


async def test_an_idle_connection_makes_room(strict: RunningHub) -> None:
    """A browser keeps connections open between two requests; they keep nobody out."""
    port = port_of(strict.web_url)
    async with asyncio.TaskGroup() as tasks:
        idle = [tasks.create_task(slow.IDLE.met(port, "127.3.2.1")) for _ in range(4)]
        await asyncio.sleep(0.2)
        late = await slow.SILENT.met(port, "127.3.2.1")
    assert late.after_seconds >= DEADLINE_SECONDS * 0.9
    assert min(client.result().after_seconds for client in idle) < DEADLINE_SECONDS / 2
    assert all(b'"status":"ok"' in client.result().said for client in idle)


async def test_agents_with_a_session_do_not_count(strict: RunningHub, folder: Path) -> None:
    """All of them call from one address, as behind one office's router."""
    identities = [await enroll(strict, folder, f"behind-nat-{number}") for number in range(6)]
    async with AsyncExitStack() as open_sockets:
        for identity in identities:
            await open_sockets.enter_async_context(greeted(strict, identity))
        await asyncio.sleep(DEADLINE_SECONDS + GRACE_SECONDS)
        agent = await open_sockets.enter_async_context(connected(strict, identities[0].tls()))
        await agent.greet()


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]])
async def test_people_who_are_signed_in_do_not_count(strict: RunningHub, transports: list[str]) -> None:
    token = await strict.sign_in()
    async with AsyncExitStack() as open_sockets:
        people = [await open_sockets.enter_async_context(watching(strict, token, transports)) for _ in range(6)]
        started = time.monotonic()
        while time.monotonic() - started < DEADLINE_SECONDS + GRACE_SECONDS:
            for person in people:
                await person.do("agents:list")
        assert not any(person.gone.is_set() for person in people)


async def test_people_who_poll_do_not_count(strict: RunningHub) -> None:
    connect = "40" + json.dumps({"token": await strict.sign_in()})
    async with AsyncExitStack() as clients, asyncio.TaskGroup() as tasks:
        polls = []
        for _ in range(6):
            http = await clients.enter_async_context(without_keep_alive(strict.web_url))
            sid = await session_id(http)
            polled = {"EIO": "4", "transport": "polling", "sid": sid}
            async with http.post("/ws/agents/", params=polled, data=connect) as told:
                assert await told.text() == "OK"
            polls.append(tasks.create_task(poll_for_ever(http, polled)))
        await asyncio.sleep(DEADLINE_SECONDS + GRACE_SECONDS)
        async with strict.people() as people, people.get("/metrics") as answer:
            assert "jtnt_people_guests 1.0" in await answer.text()
        assert not any(poll.done() for poll in polls)
        for poll in polls:
            poll.cancel()


def without_keep_alive(url: str) -> aiohttp.ClientSession:
    """A client that opens a connection for every request."""
    return aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(force_close=True))


async def session_id(http: aiohttp.ClientSession) -> str:
    """Open an engine.io session by polling."""
    async with http.get("/ws/agents/?EIO=4&transport=polling") as opened:
        return (await opened.text()).partition('"sid":"')[2].partition('"')[0]


async def poll_for_ever(http: aiohttp.ClientSession, polled: dict[str, str]) -> None:
    while True:
        async with http.get("/ws/agents/", params=polled) as answer:
            assert answer.status == 200


async def test_what_is_no_http_is_answered_in_the_hubs_own_words(strict: RunningHub) -> None:
    parting = await slow.Slow(b"\x16\x03\x01 no HTTP at all\r\n\r\n").met(port_of(strict.web_url))
    head, _, body = parting.said.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"aiohttp" not in head
    assert b'"code":"invalid_request"' in body
    assert parting.after_seconds < DEADLINE_SECONDS
