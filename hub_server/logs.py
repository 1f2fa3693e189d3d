"""Logs of the hub: one JSON line a record on standard output, the standard library's records among them."""

from __future__ import annotations

import json
import logging
import re
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
FIELDS: Final = frozenset(
    {
        "commands",
        "event",
        "level",
        "pid",
        "policy",
        "policy_id",
        "rule",
        "where",
        "timestamp",
        "component",
        "exception",
        "reason",
        "error",
        "why",
        "worker",
        "step",
        "name",
        "path",
    }
    | {"people_port", "agents_port", "address", "session_id", "socket_id", "code", "status", "state", "version"}
    | {
        "agent_id",
        "organisation_id",
        "command_id",
        "username",
        "role",
        "actor",
        "action",
        "key",
        "key_id",
        "detail",
        "trust",
    }
    | {
        "acknowledged",
        "advice",
        "agents",
        "frames",
        "hour",
        "hour_ms",
        "is_known",
        "is_repeated",
        "metric_type",
        "periods",
    }
    | {"resolution", "samples", "section", "set_aside", "site"}
)
"""What a record may hold. Whatever else it brings is left out, and its name is told in `left_out`."""
SECRET_WORDS: Final = ("token", "passw", "authorization", "cookie", "secret", "apikey", "api_key", "private_key", "otp")
PUBLIC_ENDINGS: Final = ("_id", "_count", "_seconds", "_at")
HIDDEN: Final = "***"
SECRET_FORMS: Final = (
    re.compile(r"(?P<kept>\b(?:jtnt[a-z]|itsk)_[0-9A-Za-z]{0,32}[.])[0-9A-Za-z_.-]+"),
    re.compile(r"(?P<kept>\b(?:jtnt[a-z]|itsk)_)[0-9A-Za-z_-]{20,}"),
    re.compile(r"(?P<kept>\beyJ)[0-9A-Za-z_-]{5,}[.][0-9A-Za-z_-]{5,}[.]?[0-9A-Za-z_-]*"),
    re.compile(r"(?P<kept>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?P<kept>\botpauth://)\S+"),
    re.compile(r"(?P<kept>\b[a-z][a-z0-9+]*://[^\s:/@]*:)[^\s/@]+(?=@)"),
    re.compile(r"(?P<kept>\b(?:bearer|basic) +)[0-9A-Za-z._~+/=-]{8,}", re.IGNORECASE),
    re.compile(
        r"(?P<kept>\b(?:password|passwd|secret|token|otp|authorization|cookie|csr_pem)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}]+",
        re.IGNORECASE,
    ),
)
"""Enrollment and refresh tokens, keys of scripts and organisations, JWTs, private keys, seeds of one-time codes,
passwords of database addresses, headers and fields that carry any of them."""
_QUIET: Final = ("aiosqlite", "asyncio", "alembic", "aiohttp.access")
"""What they say below a warning is of no use to whoever runs a hub."""
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
        known_fields,
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


def known_fields(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    """Keep what FIELDS names."""
    kept = {name: value for name, value in record.items() if name in FIELDS}
    if len(kept) < len(record):
        kept["left_out"] = sorted(str(name) for name in record if name not in FIELDS)
    return kept


def without_secrets(_logger: WrappedLogger, _method: str, record: EventDict) -> EventDict:
    """Hide whatever has a secret's form, in every text of the record at any depth; a traceback is a text."""
    return {name: _scrubbed(value) for name, value in record.items()}


def is_secret(name: str) -> bool:
    lowered = name.lower().replace("-", "_")
    return any(word in lowered for word in SECRET_WORDS) and not lowered.endswith(PUBLIC_ENDINGS)


def scrubbed(text: str) -> str:
    """Return `text` with HIDDEN in place of what has a secret's form. The public part of a token stays."""
    for form in SECRET_FORMS:
        text = form.sub(rf"\g<kept>{HIDDEN}", text)
    return text


def _scrubbed(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {
                scrubbed(str(name)): HIDDEN if is_secret(str(name)) else _scrubbed(each) for name, each in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_scrubbed(each) for each in value]
        case bytes():
            return f"{len(value)} bytes"
        case _:
            return scrubbed(str(value))


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
