"""Who may read the hub's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from hub_server.config import ConfigError, MetricsSettings, Settings
from hub_server.gateway.listeners import metrics_token
from hub_server.gateway.rest.addresses import AddressReader
from hub_server.gateway.rest.guard import NO_ROUTE, careful_headers, faults_guard
from hub_server.gateway.rest.metrics import MetricsDoor, MetricsRoutes

TOKEN = "a secret of some length"


async def answered(
    headers: Mapping[str, str], *, token: str | None = None, proxies: Sequence[str] = ()
) -> tuple[int, str]:
    application = web.Application(middlewares=[faults_guard(NO_ROUTE)])
    addresses = AddressReader([ip_network(proxy) for proxy in proxies])
    routes = MetricsRoutes(exposition=lambda: b"jtnt_up 1\n", door=MetricsDoor(addresses=addresses, token=token))
    application.add_routes(routes.routes())
    async with TestClient(TestServer(application)) as client, client.get("/metrics", headers=headers) as answer:
        return answer.status, await answer.text()


async def test_a_program_of_the_hubs_machine_may() -> None:
    assert await answered({}) == (200, "jtnt_up 1\n")


@pytest.mark.parametrize(
    ("remote", "is_local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True)]
    + [(remote, False) for remote in ("192.0.2.1", "::ffff:192.0.2.1", "fe80::1", "unknown", "127.0.0.1.evil")],
)
def test_only_loopback_is_this_machine(remote: str, is_local: bool) -> None:
    request = make_mocked_request("GET", "/metrics").clone(remote=remote)
    assert AddressReader().is_local(request) is is_local


@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"]])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_what_a_proxy_of_this_machine_passes_on_may_not(header: str, proxies: list[str]) -> None:
    status, text = await answered({header: "127.0.0.1"}, proxies=proxies)
    assert (status, "jtnt_up" in text) == (403, False)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 403),
        ("", 403),
        (TOKEN, 403),
        (f"Basic {TOKEN}", 403),
        (f"Bearer {TOKEN}x", 403),
        ("Bearer ", 403),
        ("Bearer \u00e9", 403),
    ],
)
async def test_with_a_token_only_who_shows_it_may(authorization: str | None, status: int) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    assert (await answered(headers, token=TOKEN))[0] == status
    assert (await answered({**headers, "X-Forwarded-For": "192.0.2.1"}, token=TOKEN))[0] == status


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert metrics_token(Settings(metrics=MetricsSettings(token_file=file)).metrics) == TOKEN
    assert metrics_token(MetricsSettings()) is None
    file.write_text("short")
    with pytest.raises(ConfigError, match="holds 5 characters"):
        metrics_token(MetricsSettings(token_file=file))
    with pytest.raises(ConfigError, match="cannot be read"):
        metrics_token(MetricsSettings(token_file=tmp_path / "none"))


@pytest.mark.parametrize(
    ("web_url", "socket", "strict"),
    [
        ("http://localhost:3000", "connect-src 'self' ws://localhost:3000;", None),
        ("https://jtnt.example", "connect-src 'self' wss://jtnt.example;", "max-age=31536000"),
    ],
)
async def test_a_page_may_reach_its_own_hub_and_nothing_else(web_url: str, socket: str, strict: str | None) -> None:
    application = web.Application()
    application.on_response_prepare.append(careful_headers(web_url))
    async with TestClient(TestServer(application)) as client, client.get("/") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert socket in policy
        assert answer.headers.get("Strict-Transport-Security") == strict
        assert "camera=()" in answer.headers["Permissions-Policy"]
    sources = [source for part in policy.split(";") for source in part.split()[1:]]
    assert not {"*", "ws:", "wss:", "http:", "https:", "'unsafe-eval'"} & set(sources)
