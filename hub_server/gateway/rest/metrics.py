"""The hub's own metrics for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


class MetricsRoutes:
    """`exposition` makes the text; it runs in a thread, for it walks every series."""

    def __init__(self, *, exposition: Callable[[], bytes]) -> None:
        self._exposition = exposition

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._metrics)]

    async def _metrics(self, _request: web.Request) -> web.Response:
        text = await asyncio.to_thread(self._exposition)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})
