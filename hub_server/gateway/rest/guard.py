"""What holds for every route of a listener: errors as JSON, default deny, headers that keep browsers careful."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from hub_server.gateway.faults import answer, response_of
from protocol.codes import ErrorCode
from protocol.enrollment import ErrorBody

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NO_ROUTE: Final = ErrorBody(code=ErrorCode.NOT_FOUND, message="there is nothing at this address")
NO_CERTIFICATE: Final = ErrorBody(
    code=ErrorCode.UNAUTHENTICATED, message="only agents with a certificate may go on; enroll first"
)


def faults_guard(unknown: ErrorBody) -> Middleware:
    """Return the outermost middleware. `unknown` answers every route and method that is not in the table."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as refused:
            if refused.status < HTTPStatus.BAD_REQUEST:
                raise
            return answer(_body_of(refused, unknown))
        except Exception as error:  # noqa: BLE001  one request fails, the listener goes on; the table logs it
            return response_of(error)

    return guard


async def careful_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the security headers; for `on_response_prepare` of the people's application."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "JTNT"


def _body_of(refused: web.HTTPException, unknown: ErrorBody) -> ErrorBody:
    """Return a refusal of aiohttp's own in the product's words."""
    match refused.status:
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            return unknown
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ErrorBody(code=ErrorCode.TOO_LARGE, message="the body is too large")
        case _:
            return ErrorBody(code=ErrorCode.INVALID_REQUEST, message=refused.reason or "bad request")
