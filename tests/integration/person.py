"""A person's Socket.IO client: the library that seed 004's consumers would use, in Python."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

import socketio
from socketio.exceptions import ConnectionError as NotConnected

from tests.integration.hub import RunningHub
from tests.integration.inbox import DEADLINE_SECONDS, Inbox

SOCKET_PATH: Final = "/ws/agents"
Json = dict[str, Any]


class Heard(NamedTuple):
    """One event as it came in."""

    name: str
    data: Json


class Person:
    """A connected dashboard. Events are kept in `inbox` until a test takes them."""

    def __init__(self) -> None:
        # Its own answer to SIGINT would cancel all tasks of the loop that the tests of this process share, and stop it.
        self.client = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self.inbox: Inbox[Heard] = Inbox("events of the hub")
        self.refusal: Json = {}
        self.gone = asyncio.Event()
        self.client.on("*", self._heard)
        self.client.on("connect_error", self._refused)
        self.client.on("disconnect", self._gone)

    async def connect(self, url: str, auth: Any, transports: list[str] | None = None) -> None:
        try:
            await self.client.connect(
                url, socketio_path=SOCKET_PATH, auth=auth, transports=transports or ["websocket"], wait_timeout=10
            )
        except NotConnected:  # the library leaves its session open then, and says so at the end
            if self.client.eio.http is not None:
                await self.client.eio.http.close()
            raise

    async def ask(self, operation: str, /, body: Any = None, **fields: Any) -> Json:
        """Return the acknowledgement of an operation, whatever it says."""
        reply: Json = await self.client.call(operation, fields if body is None else body, timeout=DEADLINE_SECONDS)
        return reply

    async def do(self, operation: str, /, **fields: Any) -> Json:
        """Return the acknowledgement of an operation that must succeed."""
        reply = await self.ask(operation, **fields)
        assert reply["ok"], f"{operation} {fields}: {reply}"
        return reply

    async def take(
        self,
        name: str,
        match: Callable[[Json], bool] = lambda _: True,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> Json:
        """Return the data of the oldest event of this name that matches."""
        heard = await self.inbox.take(
            lambda event: event.name == name and match(event.data), deadline_seconds=deadline_seconds
        )
        return heard.data

    def held(self, name: str, match: Callable[[Json], bool] = lambda _: True) -> list[Json]:
        return [event.data for event in self.inbox.held(lambda event: event.name == name and match(event.data))]

    async def stored_samples(self, agent_id: str) -> int:
        """Return how many `system` samples of the last hour the hub has of an agent."""
        now_ms = int(time.time() * 1000)
        reply = await self.do(
            "metrics:query",
            agentIds=[agent_id],
            metrics=["cpu_percent"],
            **{"from": now_ms - 3_600_000, "to": now_ms + 60_000},
            maxPoints=5000,
        )
        assert reply["resolution"] == "raw"
        return len(reply["series"][0]["timestamps"])

    async def let_go(self) -> None:
        """Close what the library leaves open of a connection that the hub has broken off."""
        left = self.client.eio.ws
        if left is not None and not left.closed:
            await left.close()

    async def _heard(self, name: str, data: Json) -> None:
        self.inbox.put(Heard(name, data))

    async def _refused(self, data: Json) -> None:
        self.refusal = data

    async def _gone(self, _reason: str) -> None:
        self.gone.set()


@asynccontextmanager
async def watching(hub: RunningHub, token: str, transports: list[str] | None = None) -> AsyncIterator[Person]:
    """A person who is signed in and watches."""
    async with watching_at(hub.web_url, token, transports) as person:
        yield person


@asynccontextmanager
async def watching_at(url: str, token: str, transports: list[str] | None = None) -> AsyncIterator[Person]:
    person = Person()
    await person.connect(url, {"token": token}, transports)
    try:
        yield person
    finally:
        await person.client.disconnect()
        await person.let_go()


async def refusal_of(hub: RunningHub, auth: Any) -> Json:
    """Return what the hub says to a client that it does not let in. Raises AssertionError when it does."""
    person = Person()
    with suppress(NotConnected):
        await person.connect(hub.web_url, auth)
        await person.client.disconnect()
        raise AssertionError("the hub let this client in")
    return person.refusal


async def known_to(person: Person, agent_id: str) -> None:
    """Return once the hub lists this agent: an enrollment reaches the lists a moment after its answer."""
    while agent_id not in [agent["id"] for agent in (await person.do("agents:list", limit=1000))["agents"]]:
        await person.take("agents:status", lambda status: any(agent["id"] == agent_id for agent in status["agents"]))
