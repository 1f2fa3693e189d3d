"""The status in Prometheus' text format, for a textfile collector: `jtnt-agent status --prometheus`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from agent_client.control.status import Status

_DOWN: Final = ["# HELP jtnt_agent_up Whether the daemon answers.", "# TYPE jtnt_agent_up gauge", "jtnt_agent_up 0"]

Values = float | Mapping[str, float] | None


def exposition_of(status: Status | None) -> str:
    """Return the figures with a line feed at the end; of a daemon that does not run only that it does not."""
    return "\n".join([*_lines(status)] if status else _DOWN) + "\n"


def _lines(status: Status) -> Iterator[str]:
    health, spool = status.health, status.spool
    for name, kind, text, values in (
        ("up", "gauge", "Whether the daemon answers.", 1.0),
        ("connected", "gauge", "Whether a session with the hub is up.", float(status.link == "connected")),
        (
            "heartbeat_success_ratio",
            "gauge",
            "Answered ones of the last 20.",
            _scaled(health.heartbeat_success_percent, 100),
        ),
        (
            "round_trip_seconds",
            "gauge",
            "Time to the answer of the last heartbeat.",
            _scaled(status.round_trip_ms, 1000),
        ),
        ("clock_ahead_seconds", "gauge", "This clock against the hub's.", _scaled(health.clock_ahead_ms, 1000)),
        (
            "certificate_left_seconds",
            "gauge",
            "Until the certificate runs out.",
            _left(status.certificate.not_after_ms),
        ),
        ("resident_memory_bytes", "gauge", "Resident memory of the daemon.", float(health.rss_bytes)),
        ("cpu_seconds_total", "counter", "Processor time of the daemon.", health.cpu_seconds),
        ("reconnects_total", "counter", "Sessions after the first, since its start.", float(health.reconnects)),
        ("samples_per_second", "gauge", "Samples taken.", health.samples_per_second),
        ("spool_bytes", "gauge", "What is stored in the spool.", float(spool.used_bytes)),
        ("spool_waiting", "gauge", "Entries the hub does not hold yet.", spool.waiting),
        ("spool_dropped_total", "counter", "Entries lost before the hub held them.", spool.dropped or None),
        ("jobs_running", "gauge", "Jobs under way.", float(status.jobs_running)),
        ("failing_collectors", "gauge", "Collectors that fail.", float(len(status.failing_collectors))),
    ):
        yield from _metric(f"jtnt_agent_{name}", kind, text, values)


def _metric(name: str, kind: str, text: str, values: Values) -> Iterator[str]:
    if values is None:
        return
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    if isinstance(values, float):
        yield f"{name} {values:.12g}"
        return
    for stream, value in values.items():
        yield f'{name}{{stream="{stream}"}} {value:.12g}'


def _scaled(value: float | None, divisor: int) -> float | None:
    return None if value is None else value / divisor


def _left(not_after_ms: int | None) -> float | None:
    return None if not_after_ms is None else round(not_after_ms / 1000 - time.time(), 1)
