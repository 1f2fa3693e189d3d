"""JSON in and out of the REST routes, bounded in size and time."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from hub_server.errors import InvalidRequest
from protocol.codec import FrameTooLarge, decode
from protocol.limits import HTTP_BODY_MAX_BYTES

T = TypeVar("T", bound=msgspec.Struct)
BODY_DEADLINE_SECONDS: Final = 10.0
_PATH: Final = "$"


class BodyReader:
    """Reads requests of one type. Compressed bodies are refused: 64 KiB need none, and they unfold to anything."""

    def __init__(self, deadline_seconds: float = BODY_DEADLINE_SECONDS) -> None:
        self._deadline_seconds = deadline_seconds

    async def read(self, request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
        """Raises InvalidRequest, FrameTooLarge, or BadFrame with the path of the field at fault."""
        if request.content_type != "application/json":
            raise InvalidRequest("send the body as application/json", path=_PATH)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise InvalidRequest("send the body uncompressed", path=_PATH)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                raw = await _all_of(request)
        except TimeoutError as error:
            raise InvalidRequest(
                f"the body did not arrive within {self._deadline_seconds:.0f} s", path=_PATH
            ) from error
        return decode(decoder, raw, HTTP_BODY_MAX_BYTES)


def json_answer(body: msgspec.Struct, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Return `body` as an answer that nobody keeps: most carry secrets."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


async def _all_of(request: web.Request) -> bytes:
    announced = request.content_length
    if announced is not None and announced > HTTP_BODY_MAX_BYTES:
        raise FrameTooLarge(announced, HTTP_BODY_MAX_BYTES)
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > HTTP_BODY_MAX_BYTES:
            raise FrameTooLarge(len(raw), HTTP_BODY_MAX_BYTES)
    return bytes(raw)
