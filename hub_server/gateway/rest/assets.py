"""The dashboard's bundle: one page, and files whose names change with their content."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from aiohttp import web

BUNDLE: Final = Path(__file__).parents[2] / "web"
FOREVER: Final = "public, max-age=31536000, immutable"
ALWAYS_ASK: Final = "no-cache"
TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".md": "text/plain",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_TEXT: Final = ("text/", "application/json", "image/svg+xml", "application/manifest+json")
_NAME: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,199}")
_NO_BUNDLE: Final = """<!doctype html><meta charset="utf-8"><title>JTNT</title>
<h1>The dashboard is not built</h1>
<p>The hub runs. In a checkout, build its dashboard with <code>python3 hatch_build.py</code>, then load this page again;
an installed package brings it along.</p>
"""


class AssetRoutes:
    def __init__(self, *, directory: Path = BUNDLE) -> None:
        self._directory = directory

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._index),
            web.get("/agent-dashboard.html", self._seed_address),
            web.get("/assets/{name}", self._asset),
            web.get("/{name}", self._file),
        ]

    async def _index(self, _request: web.Request) -> web.StreamResponse:
        page = self._found("index.html")
        if page is None:
            return web.Response(status=503, text=_NO_BUNDLE, content_type="text/html")
        return _file_response(page, ALWAYS_ASK)

    async def _seed_address(self, _request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/")

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return self._served(f"assets/{request.match_info['name']}", FOREVER)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._served(request.match_info["name"], ALWAYS_ASK)

    def _served(self, path: str, cache: str) -> web.StreamResponse:
        file = self._found(path)
        if file is None:
            raise web.HTTPNotFound
        return _file_response(file, cache)

    def _found(self, path: str) -> Path | None:
        """Return the file of the bundle at `path`; a name that could lead elsewhere finds nothing."""
        if not all(_NAME.fullmatch(part) for part in path.split("/")) or Path(path).suffix not in TYPES:
            return None
        file = self._directory / path
        return file if file.is_file() else None


def _file_response(file: Path, cache: str) -> web.FileResponse:
    kind = TYPES[file.suffix]
    charset = "; charset=utf-8" if kind.startswith(_TEXT) else ""
    return web.FileResponse(file, headers={"Content-Type": f"{kind}{charset}", "Cache-Control": cache})
