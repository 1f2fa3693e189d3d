"""The rhythm of the agent: what the hub has set, and whether a session is up. Read by the loops, set by the session."""

from __future__ import annotations

import asyncio

from agent_client.spool.ledger import Stream
from protocol.desired import AgentConfig


class Cadence:
    """Mutable; the last one who said an interval wins. `sample_soon` asks the sampler not to wait for its interval."""

    def __init__(self, settings: AgentConfig | None = None) -> None:
        self.settings = settings or AgentConfig()
        self.sample_interval_seconds = float(self.settings.sample_interval_sec)
        self.heartbeat_seconds = float(self.settings.heartbeat_interval_sec)
        self.session_is_up = False
        self.sample_soon = asyncio.Event()

    @property
    def metrics_enabled(self) -> bool:
        return self.settings.metrics_enabled

    @property
    def lane(self) -> Stream:
        return "live" if self.session_is_up else "backfill"

    def apply(self, settings: AgentConfig) -> None:
        self.settings = settings
        self.heartbeat_seconds = float(settings.heartbeat_interval_sec)
        self.set_sample_interval(float(settings.sample_interval_sec))

    def set_sample_interval(self, seconds: float) -> None:
        if seconds > 0 and seconds != self.sample_interval_seconds:
            self.sample_interval_seconds = seconds
            self.sample_soon.set()

    def session_up(self) -> None:
        self.session_is_up = True
        self.sample_soon.set()

    def session_down(self) -> None:
        self.session_is_up = False
