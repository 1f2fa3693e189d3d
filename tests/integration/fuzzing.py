"""The REST part as its own description says it is, asked by a program that tries to prove the description wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "openapi.json"
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """`statuses`: of all answers. `failures`: operation and check, with an example of a request."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


def fuzz(base_url: str, listener_port: int, *, root: Path | None = None, examples: int = 10) -> Fuzzed:
    """Ask the routes of one listener, `listener_port` in the description, at `base_url`. Blocks for seconds.

    Both valid and invalid data, the boundaries of every field and random data.
    """
    settings: dict[str, Any] = {
        "base-url": base_url,
        "tls-verify": True if root is None else str(root),
        "workers": 1,
        "continue-on-failure": True,
        "generation": {"mode": "all", "max-examples": examples, "database": "none", "no-shrink": True},
        "phases": {"stateful": {"enabled": False}, "examples": {"enabled": False}},
        "checks": {"enabled": False, **{check: {"enabled": True} for check in CHECKS}},
    }
    schema = schemathesis.openapi.from_dict(_part(listener_port), config=SchemathesisConfig.from_dict(settings))
    fuzzed = Fuzzed()
    for event in from_schema(schema).execute():
        match event:
            case events.FatalError():
                raise event.exception
            case events.NonFatalError():
                fuzzed.failures[event.label] = str(event.value)
            case events.ScenarioFinished():
                _note(fuzzed, event)
            case _:
                pass
    return fuzzed


def _part(listener_port: int) -> dict[str, Any]:
    """Return the description of one listener's routes."""
    document = json.loads(DOCUMENT.read_text())
    paths: Mapping[str, Mapping[str, Any]] = document["paths"]
    mine = {path: route for path, route in paths.items() if f":{listener_port}" in route["servers"][0]["url"]}
    assert mine
    return {
        **document,
        "paths": {path: {k: v for k, v in route.items() if k != "servers"} for path, route in mine.items()},
    }


def _note(fuzzed: Fuzzed, event: events.ScenarioFinished) -> None:
    for interaction in event.recorder.interactions.values():
        if interaction.response is not None:
            fuzzed.statuses[interaction.response.status_code] += 1
    for checks in event.recorder.checks.values():
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                example = f"{check.failure_info.failure}: {check.failure_info.code_sample}"
                fuzzed.failures.setdefault(f"{event.label} {check.name}", example[:1000])
