"""Sign-in of people: the access token is in the answer, the refresh token in a cookie that scripts cannot read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from datetime import datetime
from typing import Final, Protocol

import msgspec
from aiohttp import web

from hub_server.errors import Forbidden, Unauthenticated
from hub_server.gateway.rest.addresses import AddressReader, Network
from hub_server.gateway.rest.bodies import BodyReader, json_answer
from hub_server.gateway.rest.origins import Origins
from protocol.enrollment import SignInReply, SignInRequest

PATH: Final = "/api/v1/auth"
OWN_HEADER: Final = "X-Requested-With"
OWN_HEADER_VALUE: Final = "jtnt"


class SignedIn(Protocol):
    @property
    def access_token(self) -> str: ...
    @property
    def expires_in_seconds(self) -> int: ...
    @property
    def refresh_token(self) -> str: ...
    @property
    def refresh_expires_at(self) -> datetime: ...
    @property
    def second_factor_needed(self) -> bool: ...


class Access(Protocol):
    async def sign_in(self, request: SignInRequest, address: str) -> SignedIn: ...
    async def refresh(self, refresh_token: str, address: str) -> SignedIn: ...
    async def sign_out(self, refresh_token: str) -> None: ...


class SignInRoutes:
    """`origins`: whose pages may use these routes. `is_https`: what browsers see, of the hub or of its proxy."""

    def __init__(
        self,
        *,
        access: Access,
        origins: Set[str],
        is_https: bool,
        refresh_days: int = 14,
        trusted_proxies: Sequence[Network] = (),
        bodies: BodyReader | None = None,
    ) -> None:
        self._access = access
        self._origins = Origins(origins, trusted_proxies)
        self._is_https = is_https
        self._cookie = "__Host-jtnt_refresh" if is_https else "jtnt_refresh"
        self._cookie_path = "/" if is_https else PATH
        self._cookie_seconds = refresh_days * 86400
        self._addresses = AddressReader(trusted_proxies)
        self._bodies = bodies or BodyReader()
        self._decoder = msgspec.json.Decoder(SignInRequest)

    def routes(self) -> list[web.RouteDef]:
        handlers = {"sign-in": self._sign_in, "refresh": self._refresh, "sign-out": self._sign_out}
        return [
            route
            for name, handler in handlers.items()
            for route in (
                web.post(f"{PATH}/{name}", handler),
                web.options(f"{PATH}/{name}", self._preflight),
            )
        ]

    async def _sign_in(self, request: web.Request) -> web.Response:
        self._check_origin(request)
        body = await self._bodies.read(request, self._decoder)
        signed_in = await self._access.sign_in(body, self._addresses.address_of(request))
        return self._answer(request, signed_in)

    async def _refresh(self, request: web.Request) -> web.Response:
        self._check_is_own(request)
        address = self._addresses.address_of(request)
        signed_in = await self._access.refresh(self._refresh_token_of(request), address)
        return self._answer(request, signed_in)

    async def _sign_out(self, request: web.Request) -> web.Response:
        self._check_is_own(request)
        with contextlib.suppress(Unauthenticated):  # whoever is signed out already has what they want
            await self._access.sign_out(self._refresh_token_of(request))
        response = web.Response(status=204, headers={"Cache-Control": "no-store"})
        response.del_cookie(
            self._cookie, path=self._cookie_path, secure=self._is_https, httponly=True, samesite="Strict"
        )
        self._allow_origin(request, response)
        return response

    async def _preflight(self, request: web.Request) -> web.Response:
        self._check_origin(request)
        response = web.Response(status=204)
        self._allow_origin(request, response)
        response.headers["Access-Control-Allow-Methods"] = "POST"
        response.headers["Access-Control-Allow-Headers"] = f"Content-Type, {OWN_HEADER}"
        response.headers["Access-Control-Max-Age"] = "600"
        return response

    def _answer(self, request: web.Request, signed_in: SignedIn) -> web.Response:
        reply = SignInReply(
            access_token=signed_in.access_token,
            expires_in_sec=signed_in.expires_in_seconds,
            second_factor_needed=signed_in.second_factor_needed,
        )
        response = json_answer(reply)
        response.set_cookie(
            self._cookie,
            signed_in.refresh_token,
            max_age=self._cookie_seconds,
            path=self._cookie_path,
            secure=self._is_https,
            httponly=True,
            samesite="Strict",
        )
        self._allow_origin(request, response)
        return response

    def _refresh_token_of(self, request: web.Request) -> str:
        token = request.cookies.get(self._cookie)
        if not token:
            raise Unauthenticated("you are signed out; sign in again")
        return token

    def _check_is_own(self, request: web.Request) -> None:
        """Refuse what another site's form could send: it cannot set this header without asking first (CORS)."""
        self._check_origin(request)
        if request.headers.get(OWN_HEADER) != OWN_HEADER_VALUE:
            raise Forbidden(f"the header {OWN_HEADER}: {OWN_HEADER_VALUE} is missing")

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if not self._origins.admits(origin, request):
            raise Forbidden(
                "pages of this origin may not use this hub; its settings name them in people.allowed_origins"
            )

    def _allow_origin(self, request: web.Request, response: web.Response) -> None:
        origin = request.headers.get("Origin")
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Vary"] = "Origin"
