"""Is the hub alive, and does it take work?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from hub_server.gateway.rest.bodies import json_answer

Readiness = Callable[[], Awaitable[list[str]]]
"""Returns what keeps the hub from taking work, one phrase each; nothing when it is ready."""


class Health(Struct, frozen=True):
    status: str
    reasons: list[str] = []


class HealthRoutes:
    def __init__(self, *, readiness: Readiness) -> None:
        self._readiness = readiness

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)]

    async def _healthz(self, _request: web.Request) -> web.Response:
        return json_answer(Health("ok"))

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = await self._readiness()
        if reasons:
            return json_answer(Health("unavailable", reasons), HTTPStatus.SERVICE_UNAVAILABLE)
        return json_answer(Health("ok"))
