"""Somebody at a dashboard: signs in over REST, then asks and listens over Socket.IO."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp
import msgspec
import socketio
from socketio.exceptions import SocketIOError

from protocol.enrollment import SignInReply, SignInRequest
from protocol.limits import DASHBOARD_SOCKET_PATH
from protocol.operations import OPERATIONS, FeedSubscribeReply
from protocol.requests import Refusal, Reply

ANSWER_DEADLINE_SECONDS: Final = 10.0
OK: Final = 200
OFFERED_WINDOW_BITS: Final = 15
"""Browsers offer compression, and compress all they send once the hub agrees."""


class Refused(Exception):
    """The hub answered an operation with an error, or not at all."""

    def __init__(self, name: str, message: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(f"{name}: {message}")
        self.retry_after_seconds = retry_after_seconds


class Person:
    """A connected dashboard. Give `on` a function or a coroutine function of the event's body."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._confirm_every = 1
        self._confirmed = 0

    def on(self, event: str, handler: Any) -> None:
        self._client.on(event, handler)

    async def ask(self, name: str, **body: Any) -> Reply:
        """Return the reply to an operation. Raises Refused."""
        try:
            answer = await self._client.call(name, body, timeout=ANSWER_DEADLINE_SECONDS)
        except SocketIOError as error:
            raise Refused(name, f"no answer ({type(error).__name__})") from error
        if not answer["ok"]:
            refusal = msgspec.convert(answer, Refusal).error
            raise Refused(name, f"{refusal.code}: {refusal.message}", refusal.retry_after_sec)
        reply: Reply = msgspec.convert(answer, OPERATIONS[name].reply)
        if isinstance(reply, FeedSubscribeReply):
            self._confirm_every = reply.confirm_every
        return reply

    async def confirm(self, batch: Mapping[str, Any]) -> None:
        """Say, as often as the hub asks for it, what was drawn; nothing is said on a socket that is closing."""
        version = batch["version"]
        if batch["snapshot"] or version >= self._confirmed + self._confirm_every:
            self._confirmed = version
            with suppress(SocketIOError):
                await self._client.emit("feed:ack", {"version": version})


@asynccontextmanager
async def dashboard(web_url: str, token: str, handlers: Mapping[str, Any]) -> AsyncIterator[Person]:
    """Connect a dashboard; `handlers`: event → what is called with its body, in place before the first event."""
    client = socketio.AsyncClient(
        reconnection=False, handle_sigint=False, websocket_extra_options={"compress": OFFERED_WINDOW_BITS}
    )
    for event, handler in handlers.items():
        client.on(event, handler)
    try:
        await client.connect(
            web_url, auth={"token": token}, transports=["websocket"], socketio_path=DASHBOARD_SOCKET_PATH
        )
        yield Person(client)
    finally:
        await client.disconnect()
        await _let_go(client)


async def _let_go(client: Any) -> None:
    """Close what the library leaves open of a connection that failed, or that the hub has broken off."""
    http = client.eio.http
    if http is not None and not http.closed:
        await http.close()


async def sign_in(web_url: str, username: str, password: str) -> str:
    """Return an access token. Raises aiohttp.ClientError."""
    body = msgspec.json.encode(SignInRequest(username=username, password=password))
    headers = {"Content-Type": "application/json"}
    url = f"{web_url}/api/v1/auth/sign-in"
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
        answer.raise_for_status()
        return msgspec.json.decode(await answer.read(), type=SignInReply).access_token
