"""The hub's REST routes for people: sign in, stay signed in, sign out. Blocking; every call is bounded."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.cookies import CookieError, SimpleCookie
from typing import Final

import msgspec
from msgspec import Struct

from hub_server.operator.address import Anchors, HubAddress
from hub_server.operator.errors import NotConnected, NotSignedIn, NotTrusted, Refused
from protocol.codes import ErrorCode
from protocol.enrollment import ErrorReply, SignInReply, SignInRequest

PATH: Final = "/api/v1/auth"
COOKIE: Final = "jtnt_refresh"
"""How the refresh cookie's name ends: with HTTPS it begins with a mark of browsers."""
OWN_HEADERS: Final = {"X-Requested-With": "jtnt", "User-Agent": "jtnt", "Accept": "application/json"}
TIMEOUT_SECONDS: Final = 20.0
ANSWER_MAX_BYTES: Final = 64 * 1024


class SignedIn(Struct, frozen=True, kw_only=True):
    """`refresh_cookie`: as the hub wants it back, name=value; it is good once."""

    access_token: str
    expires_in_seconds: int
    refresh_cookie: str
    second_factor_needed: bool


class _Answer(Struct, frozen=True):
    status: int
    body: bytes
    cookies: list[str]


class SignInDoor:
    def __init__(self, address: HubAddress, anchors: Anchors, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._address = address
        self._anchors = anchors
        self._timeout_seconds = timeout_seconds

    def sign_in(self, request: SignInRequest) -> SignedIn:
        """Raises Refused, NotConnected or NotTrusted."""
        return self._signed_in(self._post("sign-in", msgspec.json.encode(request), ""))

    def refresh(self, refresh_cookie: str) -> SignedIn:
        """Raises NotSignedIn when the sign-in has ended; Refused, NotConnected or NotTrusted."""
        try:
            return self._signed_in(self._post("refresh", b"", refresh_cookie))
        except Refused as error:
            if error.code == ErrorCode.UNAUTHENTICATED:
                raise NotSignedIn("your sign-in has ended: run `jtnt login`") from error
            raise

    def sign_out(self, refresh_cookie: str) -> None:
        """Raises Refused, NotConnected or NotTrusted."""
        answer = self._post("sign-out", b"", refresh_cookie)
        if answer.status != HTTPStatus.NO_CONTENT:
            raise _refusal(answer)

    def _signed_in(self, answer: _Answer) -> SignedIn:
        if answer.status != HTTPStatus.OK:
            raise _refusal(answer)
        try:
            reply = msgspec.json.decode(answer.body, type=SignInReply)
        except msgspec.MsgspecError as error:
            raise NotConnected(f"{self._address.url} does not answer like a hub; check the address") from error
        return SignedIn(
            access_token=reply.access_token,
            expires_in_seconds=reply.expires_in_sec,
            refresh_cookie=_refresh_cookie_in(answer.cookies),
            second_factor_needed=reply.second_factor_needed,
        )

    def _post(self, name: str, body: bytes, cookie: str) -> _Answer:
        headers = dict(OWN_HEADERS)
        if body:
            headers["Content-Type"] = "application/json"
        if cookie:
            headers["Cookie"] = cookie
        connection = self._connection()
        try:
            connection.request("POST", f"{PATH}/{name}", body, headers)
            return _read(connection.getresponse())
        except ssl.SSLCertVerificationError as error:
            raise NotTrusted(untrusted(self._address, self._anchors, error.verify_message)) from error
        except (OSError, HTTPException) as error:
            raise NotConnected(self._address.unreached(error)) from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._address.is_https:
            return HTTPSConnection(host, port, timeout=self._timeout_seconds, context=self._anchors.context())
        return HTTPConnection(host, port, timeout=self._timeout_seconds)


def untrusted(address: HubAddress, anchors: Anchors, why: str) -> str:
    """Return what to tell a person whose hub cannot prove who it is."""
    if anchors.pinned_pem is not None:
        return (
            f"{address.url} shows another certificate than the one you trusted ({why}); if it was renewed, run "
            "`jtnt login` again and compare the fingerprint"
        )
    return (
        f"{address.url} cannot prove who it is ({why}); give its authority with --ca FILE, or run `jtnt login` and "
        "compare the fingerprint"
    )


def _read(response: HTTPResponse) -> _Answer:
    body = response.read(ANSWER_MAX_BYTES + 1)
    if len(body) > ANSWER_MAX_BYTES:
        raise NotConnected("the answer is too large for a hub's; check the address")
    return _Answer(response.status, body, response.headers.get_all("Set-Cookie") or [])


def _refusal(answer: _Answer) -> Refused | NotConnected:
    try:
        return Refused.of(msgspec.json.decode(answer.body, type=ErrorReply).error)
    except msgspec.MsgspecError:
        return NotConnected(f"it does not answer like a hub (HTTP status {answer.status}); check the address")


def _refresh_cookie_in(headers: list[str]) -> str:
    """Raises NotConnected when there is none."""
    for header in headers:
        try:
            cookies = SimpleCookie(header)
        except CookieError:
            continue
        for name, morsel in cookies.items():
            if name.endswith(COOKIE):
                return f"{name}={morsel.value}"
    raise NotConnected("the hub gave no refresh cookie; check the address")
