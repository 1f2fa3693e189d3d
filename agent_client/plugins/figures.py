"""What a plugin wrote, as figures: a JSON object, or lines of Prometheus text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from agent_client.collectors.readings import Figures
from agent_client.errors import AgentError

VALUES_MAX: Final = 256
OUTPUT_MAX_BYTES: Final = 64 * 1024
NAME_MAX_CHARS: Final = 128
TEXT_MAX_CHARS: Final = 1024
_INTEGER_MAX: Final = 2**63
_LINE: Final = re.compile(r"([A-Za-z_:][\w:]*(?<!:)(?:\{[^}]*\})?)\s+(\S+)(?:\s+-?\d+)?$")


class BadOutput(AgentError):
    """What the plugin wrote is no set of figures; the message names the value."""

    code: ClassVar[str] = "plugin_output"


def figures_of(output: bytes, labels: Mapping[str, str]) -> Figures:
    """Return at most VALUES_MAX figures, those of `labels` among them. Raises BadOutput.

    JSON is `{name: number, text or true/false}`, or that under `metrics`. Of Prometheus text, values that are not
    finite are left out.
    """
    try:
        text = output.decode().strip()
    except UnicodeError as error:
        raise BadOutput("it did not write UTF-8") from error
    figures = _of_json(text) if text.startswith("{") else _of_lines(text)
    if not figures:
        raise BadOutput("it wrote no figures")
    figures |= {f"label.{name}": value for name, value in labels.items()}
    if len(figures) > VALUES_MAX:
        raise BadOutput(f"it wrote {len(figures)} values; {VALUES_MAX} are the limit, its labels among them")
    return figures


def _of_json(text: str) -> Figures:
    try:
        said: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadOutput(f"it did not write a JSON object: {error}") from error
    metrics = said.get("metrics", said)
    if not isinstance(metrics, dict):
        raise BadOutput("`metrics` is no object")
    return {_name(name): _value(name, value) for name, value in metrics.items()}


def _of_lines(text: str) -> Figures:
    figures: Figures = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.match(line.strip())
        try:
            value = float(found[2] if found else "none")
        except ValueError:
            raise BadOutput(f"line {number} is neither JSON nor `name value`: {line.strip()[:80]!r}") from None
        if found and math.isfinite(value):
            figures[_name(found[1])] = int(value) if value.is_integer() and abs(value) < 2**53 else value
    return figures


def _name(name: str) -> str:
    if not 1 <= len(name) <= NAME_MAX_CHARS or not name.isprintable():
        raise BadOutput(f"{name[:40]!r} is no name: 1 to {NAME_MAX_CHARS} printable characters")
    return name


def _value(name: str, value: object) -> bool | int | float | str:
    match value:
        case bool() | float():
            return value
        case int() if -_INTEGER_MAX <= value < _INTEGER_MAX:
            return value
        case int():
            raise BadOutput(f"`{name}` is larger than 64 bits hold")
        case str() if len(value) <= TEXT_MAX_CHARS and "\0" not in value:
            return value
        case str():
            raise BadOutput(f"`{name}` is longer than {TEXT_MAX_CHARS} characters, or holds a NUL")
        case _:
            raise BadOutput(f"`{name}` is no number, text, true or false")
