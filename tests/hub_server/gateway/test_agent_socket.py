"""The agents' WebSocket on a real connection: what is taken as it is read, what is left, what is written."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from hub_server.gateway.agents.agent_socket import AgentSocket, text_frame


class Served:
    """One connection: takes texts that begin with `now`, and echoes all others with what was taken before them."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.ended = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        socket = AgentSocket(compress=False)
        await socket.prepare(request)
        socket.offer_to(self.take)
        async for message in socket:
            assert request.transport is not None
            request.transport.write(text_frame(f"{message.data} after {self.taken}".encode()))
        self.ended.set()
        return socket

    def take(self, text: str) -> bool:
        if text.startswith("now"):
            self.taken.append(text)
            return True
        return False


@pytest.fixture
def served() -> Served:
    return Served()


async def connected(served: Served, *texts: str) -> list[str]:
    """Say `texts` on one connection, close it, and return what came back."""
    application = web.Application()
    application.router.add_get("/", served.serve)
    async with (
        asyncio.timeout(30),
        TestServer(application) as server,
        aiohttp.ClientSession() as http,
        http.ws_connect(server.make_url("/"), max_msg_size=0) as client,
    ):
        answers = []
        for text in texts:
            await client.send_str(text)
            if not text.startswith("now"):
                answer = await client.receive()
                assert answer.type is WSMsgType.TEXT
                answers.append(answer.data)
        await client.close()
        await served.ended.wait()
    return answers


async def test_texts_are_taken_in_order_and_the_refused_ones_received(served: Served) -> None:
    answers = await connected(served, "now 1", "later 2", "now 3", "now 4", "later 5", "now 6")
    assert answers == ["later 2 after ['now 1']", "later 5 after ['now 1', 'now 3', 'now 4']"]
    assert served.taken == ["now 1", "now 3", "now 4", "now 6"]


@pytest.mark.parametrize("size", [0, 100, 125, 126, 65_000, 65_535, 65_536, 300_000])
async def test_a_text_of_any_length_arrives_whole(served: Served, size: int) -> None:
    (answer,) = await connected(served, "x" * max(0, size - len(" after []")))
    assert answer == "x" * max(0, size - len(" after []")) + " after []"
