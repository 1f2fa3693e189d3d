import ipaddress
from http.cookies import Morsel

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from hub_server.gateway.rest.guard import NO_ROUTE, faults_guard
from hub_server.gateway.rest.sign_in import SignInRoutes
from tests.hub_server.rest.conftest import ORIGIN, Access, Client

SIGN_IN, REFRESH, SIGN_OUT = (f"/api/v1/auth/{name}" for name in ("sign-in", "refresh", "sign-out"))
RIGHT = {"username": "ada", "password": "right"}
OWN = {"X-Requested-With": "jtnt"}


def cookie_of(answer: ClientResponse, name: str = "jtnt_refresh") -> Morsel[str]:
    return answer.cookies[name]


async def code_of(answer: ClientResponse) -> tuple[int, str]:
    return answer.status, (await answer.json())["error"]["code"]


async def test_a_person_signs_in_refreshes_and_signs_out(people: Client, access: Access) -> None:
    signed_in = await people.post(SIGN_IN, json=RIGHT, headers={"Origin": ORIGIN})
    assert (signed_in.status, await signed_in.json()) == (
        200,
        {"accessToken": "access-1", "expiresInSec": 600, "secondFactorNeeded": False},
    )
    refreshed = await people.post(REFRESH, headers=OWN)
    assert (refreshed.status, await refreshed.json()) == (
        200,
        {"accessToken": "access-2", "expiresInSec": 600, "secondFactorNeeded": False},
    )
    signed_out = await people.post(SIGN_OUT, headers=OWN)
    assert signed_out.status == 204
    assert access.signed_out == ["refresh-2"]
    assert await code_of(await people.post(REFRESH, headers=OWN)) == (401, "unauthenticated")


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(people: Client) -> None:
    cookie = cookie_of(await people.post(SIGN_IN, json=RIGHT))
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/api/v1/auth")
    assert cookie["max-age"] == str(14 * 86400)
    assert not cookie["secure"]


async def test_over_https_the_cookie_belongs_to_this_host_alone(access: Access) -> None:
    application = web.Application(middlewares=[faults_guard(NO_ROUTE)])
    routes = SignInRoutes(access=access, origins={"https://hub.example"}, is_https=True)
    application.add_routes(routes.routes())
    async with TestClient(TestServer(application)) as client:
        cookie = cookie_of(await client.post(SIGN_IN, json=RIGHT), "__Host-jtnt_refresh")
        assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
        answer = await client.post(REFRESH, headers=OWN | {"Cookie": "__Host-jtnt_refresh=refresh-1"})
        assert answer.status == 200


async def test_another_sites_form_can_do_nothing(people: Client, access: Access) -> None:
    await people.post(SIGN_IN, json=RIGHT)
    for path in (REFRESH, SIGN_OUT):
        assert await code_of(await people.post(path)) == (403, "forbidden")
        assert await code_of(await people.post(path, headers=OWN | {"Origin": "https://evil.example"})) == (
            403,
            "forbidden",
        )
    evil = await people.post(SIGN_IN, json=RIGHT, headers={"Origin": "null"})
    assert await code_of(evil) == (403, "forbidden")
    assert (access.serial, access.signed_out) == (1, [])


async def test_signing_out_twice_is_no_error(people: Client) -> None:
    assert (await people.post(SIGN_OUT, headers=OWN)).status == 204
    assert (await people.post(SIGN_OUT, headers=OWN | {"Cookie": "jtnt_refresh=old"})).status == 204


async def test_wrong_credentials_and_bad_bodies_are_refused(people: Client) -> None:
    wrong = await people.post(SIGN_IN, json=RIGHT | {"password": "wrong"})
    assert await code_of(wrong) == (401, "unauthenticated")
    assert "Set-Cookie" not in wrong.headers
    unnamed = await people.post(SIGN_IN, json={"password": "right"})
    assert await code_of(unnamed) == (400, "invalid_request")
    empty = (await (await people.post(SIGN_IN, json=RIGHT | {"username": ""})).json())["error"]
    assert (empty["code"], empty["path"]) == ("invalid_request", "$.username")


async def test_a_named_origin_may_use_it_from_its_own_page(people: Client) -> None:
    asked = await people.options(SIGN_IN, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"})
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    answer = await people.post(SIGN_IN, json=RIGHT, headers={"Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    refused = await people.options(SIGN_IN, headers={"Origin": "https://evil.example"})
    assert refused.status == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize(
    ("trusted", "forwarded", "seen"),
    [
        ("127.0.0.0/8", "203.0.113.1", "203.0.113.1"),
        ("127.0.0.0/8", "10.0.0.1, 203.0.113.1, 127.0.0.5", "203.0.113.1"),
        ("127.0.0.0/8", "", "127.0.0.1"),
        ("10.0.0.0/8", "203.0.113.1", "127.0.0.1"),
    ],
)
async def test_only_a_named_proxy_is_believed(access: Access, trusted: str, forwarded: str, seen: str) -> None:
    application = web.Application(middlewares=[faults_guard(NO_ROUTE)])
    routes = SignInRoutes(
        access=access, origins={ORIGIN}, is_https=False, trusted_proxies=[ipaddress.ip_network(trusted)]
    )
    application.add_routes(routes.routes())
    async with TestClient(TestServer(application)) as client:
        await client.post(SIGN_IN, json=RIGHT, headers={"X-Forwarded-For": forwarded})
    assert access.asked[0][1] == seen
