"""Structured logs: one JSON object a line on standard output (seed 000, "Logging"). Nothing else ever writes there."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_NAMES: Final = {number: name for name, number in LEVELS.items()}
_FIELDS: Final = "fields"


class Log:
    """What one component says: a constant phrase, and fields. Never a secret, never a command's output."""

    __slots__ = ("_logger",)

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"agent.{component}")

    def debug(self, phrase: str, **fields: object) -> None:
        self._logger.debug(phrase, extra={_FIELDS: fields})

    def info(self, phrase: str, **fields: object) -> None:
        self._logger.info(phrase, extra={_FIELDS: fields})

    def warn(self, phrase: str, **fields: object) -> None:
        self._logger.warning(phrase, extra={_FIELDS: fields})

    def error(self, phrase: str, *, exception: BaseException | None = None, **fields: object) -> None:
        self._logger.error(phrase, exc_info=exception, extra={_FIELDS: fields})

    def fatal(self, phrase: str, **fields: object) -> None:
        self._logger.critical(phrase, extra={_FIELDS: fields})


def relay(level: int, component: str, phrase: str, fields: Mapping[str, Any]) -> None:
    """Log what a component said in another process."""
    logging.getLogger(f"agent.{component}").log(level, "%s", phrase, extra={_FIELDS: fields})


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return dict(getattr(record, _FIELDS, {}))


class JsonLines:
    """Renders records as JSON lines; `agent_id` is on every line once it is known."""

    def __init__(self) -> None:
        self.agent_id = ""
        self._formatter = logging.Formatter()

    def render(self, record: logging.LogRecord) -> bool:
        """Put the line where the handler's format looks for it. Always keeps the record."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "component": record.name.removeprefix("agent."),
            "agent_id": self.agent_id,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self._formatter.formatException(record.exc_info)
        record.exc_info = record.exc_text = record.stack_info = None
        record.json_line = msgspec.json.encode(line, enc_hook=str).decode()
        return True


def log_to(stream: TextIO = sys.stdout, level: str = "info") -> JsonLines:
    """Send every log record of the process to `stream`. Returns the renderer, to be told the agent's id."""
    lines = JsonLines()
    handler = logging.StreamHandler(stream)
    handler.addFilter(lines.render)
    handler.setFormatter(logging.Formatter("%(json_line)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    set_level(level)
    return lines


def set_level(level: str) -> None:
    """Set the least level that is written; libraries speak only from `warn` on."""
    logging.getLogger().setLevel(max(LEVELS[level], logging.WARNING))
    logging.getLogger("agent").setLevel(LEVELS[level])
