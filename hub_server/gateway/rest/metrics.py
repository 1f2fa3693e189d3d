"""The hub's own metrics for Prometheus."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from hub_server.errors import Forbidden
from hub_server.gateway.rest.addresses import AddressReader

BEARER: Final = "bearer"


class MetricsDoor:
    """Who may read metrics: programs of this machine, or with `token` whoever shows it as a bearer."""

    def __init__(self, *, addresses: AddressReader | None = None, token: str | None = None) -> None:
        self._addresses = addresses or AddressReader()
        self._token_sha256 = None if token is None else _sha256(token)

    def admit(self, request: web.Request) -> None:
        """Raises Forbidden."""
        if not self._permits(request):
            raise Forbidden(
                "metrics are for programs of the hub's own machine, or for whoever shows the token of the setting "
                "metrics.token_file as a bearer"
            )

    def _permits(self, request: web.Request) -> bool:
        if self._token_sha256 is None:
            return self._addresses.is_local(request)
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == BEARER and hmac.compare_digest(_sha256(shown.strip()), self._token_sha256)


class MetricsRoutes:
    """`exposition` makes the text; it runs in a thread, for it walks every series."""

    def __init__(self, *, exposition: Callable[[], bytes], door: MetricsDoor) -> None:
        self._exposition = exposition
        self._door = door

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._metrics)]

    async def _metrics(self, request: web.Request) -> web.Response:
        self._door.admit(request)
        text = await asyncio.to_thread(self._exposition)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
