"""Pages of other origins get nothing of the hub: not over Socket.IO, not over REST."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import trustme

from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub, running_hub

PUBLIC: Final = "https://jtnt.example"
LOOK_ALIKE: Final = "https://jtnt.ex\u0430mple".encode("idna").decode()
POLL: Final = {"EIO": "4", "transport": "polling"}
SOCKET: Final = {"EIO": "4", "transport": "websocket"}
SIGN_IN: Final = "/api/v1/auth/sign-in"
WELCOME: Final = '40{"sid":'
OWN: Final = {"X-Requested-With": "jtnt"}
Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Browser:
    """Somebody who is signed in, and whose browser may show any page. `proxied`: what a proxy on the way adds."""

    http: aiohttp.ClientSession
    token: str
    proxied: Headers

    async def opened(self, origin: str) -> dict[str, bool]:
        """Let a page of `origin` try every way in with right password, token and cookie; return which let it in."""
        said = {**self.proxied, "Origin": origin}
        body = {"username": ADMINISTRATOR, "password": PASSWORD}
        return {
            "preflight": await self._preflight(said),
            "sign-in": await _status(self.http, SIGN_IN, said, json=body) == 200,
            "refresh": await _status(self.http, "/api/v1/auth/refresh", {**said, **OWN}) == 200,
            "polling": await _polled(self.http, said, self.token),
            "websocket": await _opened(self.http, said, self.token),
        }

    async def _preflight(self, said: Headers) -> bool:
        asked = {**said, "Access-Control-Request-Method": "POST"}
        async with self.http.options(SIGN_IN, headers=asked) as answer:
            return "Access-Control-Allow-Origin" in answer.headers


@asynccontextmanager
async def browser(
    url: str, proxied: Headers | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Browser]:
    options: dict[str, Any] = {} if tls is None else {"connector": aiohttp.TCPConnector(ssl=tls)}
    jar, proxied = aiohttp.CookieJar(unsafe=True), proxied or {}
    async with aiohttp.ClientSession(url, cookie_jar=jar, **options) as http:
        body = {"username": ADMINISTRATOR, "password": PASSWORD}
        async with http.post(SIGN_IN, json=body, headers=proxied) as answer:
            token = (await answer.json())["accessToken"]
        yield Browser(http, token, proxied)


async def _status(http: aiohttp.ClientSession, path: str, headers: Headers, **options: Any) -> int:
    async with http.post(path, headers=headers, **options) as answer:
        return answer.status


async def _polled(http: aiohttp.ClientSession, headers: Headers, token: str) -> bool:
    """Sign in over polling."""
    async with http.get("/ws/agents/", params=POLL, headers=headers) as opened:
        if opened.status != 200:
            return False
        sid = (await opened.text()).partition('"sid":"')[2].partition('"')[0]
    polled = {**POLL, "sid": sid}
    async with http.post("/ws/agents/", params=polled, headers=headers, data=f'40{{"token":"{token}"}}'):
        pass
    async with http.get("/ws/agents/", params=polled, headers=headers) as answer:
        return WELCOME in await answer.text()


async def _opened(http: aiohttp.ClientSession, headers: Headers, token: str) -> bool:
    with suppress(aiohttp.WSServerHandshakeError):
        async with http.ws_connect("/ws/agents/", params=SOCKET, headers=headers) as socket:
            await socket.receive_str()
            await socket.send_str(f'40{{"token":"{token}"}}')
            async for message in socket:
                if WELCOME in str(message.data):
                    return True
    return False


def hostile(true: str) -> Mapping[str, str]:
    """Return origins that look like `true` and are not."""
    scheme, _, place = true.partition("://")
    host, _, port = place.partition(":")
    tail = f":{port}" if port else ""
    return {
        "the other scheme": f"{'http' if scheme == 'https' else 'https'}://{place}",
        "another port": f"{scheme}://{host}:4",
        "true with an ending": f"{true}.evil.example",
        "an ending of true": f"{scheme}://evil-{place}",
        "null": "null",
        "a name below": f"{scheme}://evil.{place}",
        "true as a user's name": f"{scheme}://{place}@evil.example",
        "true with a user": f"{scheme}://evil@{place}",
        "a look-alike": LOOK_ALIKE,
        "no page of the web": f"chrome-extension://{host}{tail}",
        "true with a slash": f"{true}/",
        "true with a path": f"{true}/x",
        "a list with true": f"{true}, https://evil.example",
        "another": "https://evil.example",
    }


@asynccontextmanager
async def behind_proxy(folder: Path) -> AsyncIterator[RunningHub]:
    """A hub that believes a proxy on this machine, and has no idea of its public name."""
    async with running_hub(folder, people={"trusted_proxies": ["127.0.0.1"]}) as hub:
        yield hub


async def assert_only(open_to: str, visitor: Browser) -> None:
    for origin in hostile(open_to).values():
        await assert_shut(visitor, origin)
    assert set((await visitor.opened(open_to)).values()) == {True}, open_to


async def assert_shut(visitor: Browser, origin: str) -> None:
    assert set((await visitor.opened(origin)).values()) == {False}, origin


async def test_over_plain_loopback(hub: RunningHub) -> None:
    async with browser(hub.web_url) as visitor:
        await assert_only(hub.web_url, visitor)


async def test_a_name_that_anybody_could_point_here_is_not_the_hubs_own(hub: RunningHub) -> None:
    """DNS rebinding: the page's own name leads to this machine, so its requests carry it as host."""
    async with browser(hub.web_url, {"Host": "evil.example"}) as visitor:
        await assert_shut(visitor, "http://evil.example")


async def test_over_direct_tls(folder: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "web.pem")
    people = {"certificate": folder / "web.pem", "key": folder / "web.pem"}
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    async with running_hub(folder / "hub", people=people) as hub:
        url = hub.web_url.replace("http://127.0.0.1", "https://localhost")
        async with browser(url, tls=tls) as visitor:
            await assert_only(url, visitor)


async def test_behind_a_named_proxy(folder: Path) -> None:
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "jtnt.example", "X-Forwarded-For": "192.0.2.9"}
    async with behind_proxy(folder / "hub") as hub, browser(hub.web_url, proxied) as visitor:
        await assert_only(PUBLIC, visitor)
        earlier = replace(visitor, proxied={**proxied, "X-Forwarded-Host": "evil.example, jtnt.example"})
        await assert_shut(earlier, "https://evil.example")


async def test_a_proxy_that_is_not_named_is_not_believed(hub: RunningHub) -> None:
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    async with browser(hub.web_url, proxied) as visitor:
        await assert_shut(visitor, "https://evil.example")
        await assert_shut(visitor, hub.web_url.replace("http", "https"))
