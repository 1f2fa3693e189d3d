"""The one table from what went wrong to what a peer is told: HTTP answer and acknowledgement."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.errors import HubError
from protocol.codec import BadFrame, FrameTooLarge, split_path
from protocol.codes import ErrorCode
from protocol.enrollment import ErrorBody, ErrorReply
from protocol.requests import Refusal

STATUS: Final[Mapping[ErrorCode, HTTPStatus]] = {
    ErrorCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.UNKNOWN_OPERATION: HTTPStatus.NOT_FOUND,
    ErrorCode.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.CONFLICT: HTTPStatus.CONFLICT,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.QUOTA: HTTPStatus.FORBIDDEN,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.TOKEN_REFUSED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.KEY_IN_USE: HTTPStatus.CONFLICT,
    ErrorCode.OTP_REQUIRED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
}
_ROOT: Final = "$"
log = structlog.get_logger(component="gateway")


def body_of(error: Exception) -> ErrorBody:
    """Return what the peer may know of `error`. What nobody expected is logged here, once, and says nothing."""
    match error:
        case HubError():
            return ErrorBody(
                code=error.code, message=error.message, path=error.path, retry_after_sec=error.retry_after_seconds
            )
        case FrameTooLarge():
            return ErrorBody(code=ErrorCode.TOO_LARGE, message=str(error))
        case BadFrame():
            return _invalid(str(error), error.path)
        case msgspec.ValidationError():
            return _invalid(*split_path(str(error)))
        case msgspec.DecodeError():
            return _invalid(f"not JSON: {error}", _ROOT)
        case OperationalError() | InterfaceError() | PoolTimeout() | TimeoutError():
            log.warning("database or peer too slow, or gone", exc_info=error)
            return ErrorBody(
                code=ErrorCode.UNAVAILABLE, message="the hub is busy; try again in a moment", retry_after_sec=1
            )
        case _:
            log.error("unexpected error", exc_info=error)
            return ErrorBody(
                code=ErrorCode.INTERNAL, message="the hub failed at this; its log says why, with this time of day"
            )


def refusal_of(error: Exception) -> dict[str, Any]:
    """Return the acknowledgement of a refused operation."""
    refusal: dict[str, Any] = msgspec.to_builtins(Refusal(error=body_of(error)))
    return refusal


def response_of(error: Exception) -> web.Response:
    """Return the answer of a refused HTTP request."""
    return answer(body_of(error))


def answer(body: ErrorBody) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if body.retry_after_sec is not None:
        headers["Retry-After"] = str(body.retry_after_sec)
    return web.Response(
        status=STATUS[body.code],
        body=msgspec.json.encode(ErrorReply(error=body)),
        content_type="application/json",
        headers=headers,
    )


def _invalid(message: str, path: str) -> ErrorBody:
    return ErrorBody(code=ErrorCode.INVALID_REQUEST, message=message, path=path or _ROOT)
