"""Logs of the hub: one JSON line a record on standard output, the standard library's records among them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
SECRET_WORDS: Final = (
    "token",
    "password",
    "passwd",
    "authorization",
    "cookie",
    "secret",
    "api_key",
    "apikey",
    "private_key",
    "credential",
    "otp",
)
PUBLIC_ENDINGS: Final = ("_id", "_count", "_seconds", "_at")
_QUIET: Final = ("aiosqlite", "asyncio", "alembic", "aiohttp.access")
_MUTE: Final = ("engineio", "socketio")
"""They log a traceback for each malformed packet, which anybody may send."""


def configure(level: str, stream: TextIO | None = None) -> None:
    """Route all logging to `stream`, else to standard output. `level`: debug, info, warning, error or fatal."""
    stream = stream or sys.stdout
    threshold = LEVELS[level]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        without_secrets,
        structlog.processors.EventRenamer("message"),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_json)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_component_of_logger],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *shared,
                structlog.processors.JSONRenderer(serializer=_json),
            ],
        )
    )
    logging.basicConfig(level=threshold, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    for name in _MUTE:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def without_secrets(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    """Drop every field whose name speaks of a secret, at any depth; `token_id` and its like stay."""
    return _cleaned(record)


def is_secret(name: str) -> bool:
    lowered = name.lower().replace("-", "_")
    return any(word in lowered for word in SECRET_WORDS) and not lowered.endswith(PUBLIC_ENDINGS)


def _cleaned(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _cleaned(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if not is_secret(str(name))
    }


def _component_of_logger(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    standard: logging.LogRecord | None = record.get("_record")
    if standard is not None:
        record["component"] = standard.name
    return record


def _json(record: EventDict, **_options: Any) -> str:
    """Return `record` as JSON whatever it holds: a log line never raises."""
    try:
        return orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, or an integer beyond 64 bits
        return json.dumps(record, default=str, ensure_ascii=False).encode(errors="replace").decode()
