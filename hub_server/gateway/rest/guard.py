"""What holds for every route of a listener: errors as JSON, default deny, headers that keep browsers careful."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from hub_server.gateway.faults import answer, response_of
from protocol.codes import ErrorCode
from protocol.enrollment import ErrorBody

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Preparing = Callable[[web.Request, web.StreamResponse], Awaitable[None]]
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self' {socket}; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
STRICT_TRANSPORT_SECURITY: Final = "max-age=31536000"
SERVER: Final = "JTNT"
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


def careful_headers(web_url: str) -> Preparing:
    """Return what sets the security headers, for an application's `on_response_prepare`. `web_url`: what browsers show.

    The socket's origin is named beside 'self', which older browsers do not take to hold ws: and wss: too.
    """
    parts = urlsplit(web_url)
    is_https = parts.scheme == "https"
    socket = f"{'wss' if is_https else 'ws'}://{parts.netloc}"
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY.format(socket=socket), **SECURITY_HEADERS}
    if is_https:
        headers["Strict-Transport-Security"] = STRICT_TRANSPORT_SECURITY

    async def prepare(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = SERVER

    return prepare


def malformed() -> web.Response:
    """Return the answer to what is no HTTP; the connection ends with it."""
    response = answer(ErrorBody(code=ErrorCode.INVALID_REQUEST, message="this is no HTTP request"))
    response.headers.update({"Server": SERVER, **SECURITY_HEADERS})
    response.force_close()
    return response


def _body_of(refused: web.HTTPException, unknown: ErrorBody) -> ErrorBody:
    """Return a refusal of aiohttp's own in the product's words."""
    match refused.status:
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            return unknown
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ErrorBody(code=ErrorCode.TOO_LARGE, message="the body is too large")
        case _:
            return ErrorBody(code=ErrorCode.INVALID_REQUEST, message=refused.reason or "bad request")
