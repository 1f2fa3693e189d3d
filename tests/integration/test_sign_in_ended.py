"""A sign-in or a key that ends takes its open sockets with it, at once and not when its token runs out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from socketio.exceptions import SocketIOError

from hub_server.gateway.dashboards.server import DashboardServer
from protocol.enumerations import Role
from protocol.people import UsersName
from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub
from tests.integration.person import Json, Person, refusal_of, watching

OWN: Final = {"X-Requested-With": "jtnt"}
CUT_DEADLINE_SECONDS: Final = 30.0
AT_ONCE_SECONDS: Final = 1.0
SOCKETS: Final = 10


@asynccontextmanager
async def sockets_of(hub: RunningHub, username: str) -> AsyncIterator[list[Person]]:
    """Ten sockets of one person, in two sign-ins."""
    tokens = [await hub.sign_in(username) for _ in range(2)]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(watching(hub, tokens[number % 2])) for number in range(SOCKETS)]


async def gone_within(people: list[Person]) -> float:
    """Return after how many seconds the last of them is cut off."""
    started = time.monotonic()
    async with asyncio.timeout(CUT_DEADLINE_SECONDS):
        for one in people:
            await one.gone.wait()
    return time.monotonic() - started


async def is_denied(someone: Person) -> bool:
    """Tell whether the next operation gets no answer, or is refused."""
    try:
        reply: Json = await someone.client.call("agents:list", {}, timeout=1)
    except SocketIOError:
        return True
    return not reply["ok"] and reply["error"]["code"] == "unauthenticated"


async def test_a_sign_out_closes_the_open_socket_of_that_sign_in_alone(hub: RunningHub, token: str) -> None:
    async with hub.people() as browser, watching(hub, token) as other:
        async with browser.post(
            "/api/v1/auth/sign-in", json={"username": ADMINISTRATOR, "password": PASSWORD}
        ) as answer:
            access_token = (await answer.json())["accessToken"]
        async with watching(hub, access_token) as person:
            async with browser.post("/api/v1/auth/sign-out", headers=OWN) as answer:
                assert answer.status == 204
            assert await gone_within([person]) < AT_ONCE_SECONDS
        assert (await other.ask("agents:list"))["ok"]


@pytest.mark.parametrize(
    ("operation", "further"),
    [
        ("users:lock", {}),
        ("users:remove-totp", {}),
        ("users:set-password", {"password": "an entirely new passphrase 9"}),
        ("users:set-role", {"role": "viewer"}),
        ("users:remove", {}),
    ],
)
async def test_what_an_administrator_ends_closes_ten_sockets_within_a_second(
    hub: RunningHub, person: Person, operation: str, further: Mapping[str, str]
) -> None:
    username = f"victim-of-{operation.partition(':')[2]}"
    user_id = await hub.add_user(username, Role.TECHNICIAN)
    async with sockets_of(hub, username) as sockets:
        await person.do(operation, userId=user_id, **further)
        denied = asyncio.gather(*(is_denied(socket) for socket in sockets))
        assert await gone_within(sockets) < AT_ONCE_SECONDS
        assert all(await denied)
    assert (await person.ask("agents:list"))["ok"]


async def test_the_next_operation_is_denied_even_before_the_socket_is_closed(
    hub: RunningHub, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lingers(_self: DashboardServer, *_arguments: object) -> None:
        pass

    user_id = await hub.add_user("lingering", Role.TECHNICIAN)
    async with watching(hub, await hub.sign_in("lingering")) as someone:
        assert (await someone.ask("agents:list"))["ok"]
        monkeypatch.setattr(DashboardServer, "_cut", lingers)
        await person.do("users:lock", userId=user_id)
        assert (await someone.ask("agents:list"))["error"]["code"] == "unauthenticated"
        assert not someone.gone.is_set()
        monkeypatch.undo()
        await gone_within([someone])


@pytest.mark.parametrize("deed", ["lock", "grant", "remove_totp", "remove"])
async def test_what_is_ended_on_the_command_line_closes_the_sockets_within_a_second(hub: RunningHub, deed: str) -> None:
    username = f"ended-by-{deed}"
    user_id = await hub.add_user(username, Role.TECHNICIAN)
    machine = await hub.on_machine()
    deeds: dict[str, Callable[[], Awaitable[Any]]] = {
        "grant": lambda: hub.users.grant(machine, username, Role.VIEWER),
        "lock": lambda: hub.users.lock(machine, UsersName(user_id=user_id)),
        "remove_totp": lambda: hub.users.remove_totp(machine, UsersName(user_id=user_id)),
        "remove": lambda: hub.users.remove(machine, UsersName(user_id=user_id)),
    }
    async with sockets_of(hub, username) as sockets:
        await deeds[deed]()
        denied = asyncio.gather(*(is_denied(socket) for socket in sockets))
        assert await gone_within(sockets) < AT_ONCE_SECONDS
        assert all(await denied)


async def test_signing_out_everywhere_is_answered_and_closes_every_socket(hub: RunningHub) -> None:
    await hub.add_user("wanderer", Role.VIEWER)
    async with sockets_of(hub, "wanderer") as sockets:
        assert await sockets[0].do("account:sign-out-everywhere")
        assert await gone_within(sockets) < AT_ONCE_SECONDS


async def test_a_new_password_closes_all_other_sockets(hub: RunningHub) -> None:
    await hub.add_user("careful", Role.VIEWER)
    async with sockets_of(hub, "careful") as sockets:
        await sockets[0].do("account:set-password", current=PASSWORD, new="an entirely new passphrase 9")
        assert await gone_within(sockets[1::2]) < AT_ONCE_SECONDS
        for socket in sockets[::2]:
            assert (await socket.ask("agents:list"))["ok"]


async def test_a_script_connects_with_a_key_until_it_is_revoked(hub: RunningHub, person: Person) -> None:
    made = await person.do("api-keys:create", name="backup", role="viewer")
    async with AsyncExitStack() as stack:
        scripts = [await stack.enter_async_context(watching(hub, made["keyText"])) for _ in range(SOCKETS)]
        assert (await scripts[0].ask("agents:list"))["ok"]
        assert (await scripts[0].ask("commands:list"))["error"]["code"] == "forbidden"
        assert (await scripts[0].do("auth:refresh", token=made["keyText"]))["expiresInSec"] > 86400
        await person.do("api-keys:revoke", keyId=made["key"]["id"])
        denied = asyncio.gather(*(is_denied(script) for script in scripts))
        assert await gone_within(scripts) < AT_ONCE_SECONDS
        assert all(await denied)
    assert (await refusal_of(hub, {"token": made["keyText"]}))["message"] == "unauthenticated"


UPGRADE: Final = (
    b"GET /ws/agents/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def masked(text: str) -> bytes:
    """Return a text frame of 126 bytes or more as clients send it (RFC 6455, 5.2), with a mask that changes nothing."""
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text.encode()


async def test_a_client_that_never_says_goodbye_is_hung_up_on(hub: RunningHub, person: Person) -> None:
    user_id = await hub.add_user("stubborn", Role.VIEWER)
    token = await hub.sign_in("stubborn")
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(hub.web_url).port)
    try:
        writer.write(UPGRADE + masked('40{"token":"' + token + '"}'))
        async with asyncio.timeout(CUT_DEADLINE_SECONDS):
            await reader.readuntil(b'40{"sid"')
            await person.do("users:lock", userId=user_id)
            started = time.monotonic()
            with suppress(ConnectionResetError):
                while await reader.read(65536):
                    pass
        assert time.monotonic() - started < AT_ONCE_SECONDS
    finally:
        writer.close()
