"""What can be asked of agents' clocks: their offset, measured at each hello and heartbeat, in memory only."""

from __future__ import annotations

from collections.abc import Iterator

from hub_server.bus.port import Bus
from hub_server.clock import Clock, milliseconds
from hub_server.events import ClockOffsetMeasured
from hub_server.skew.engine import correction_ms, estimated, is_skewed
from hub_server.skew.model import Estimate, Reading


class SkewService:
    def __init__(self, *, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._estimates: dict[str, Estimate] = {}
        self._corrections_ms: dict[str, int] = {}
        self._judged: dict[str, ClockOffsetMeasured] = {}

    def measured(self, organisation_id: str, agent_id: str, clock_ms: int, monotonic_ms: int) -> None:
        """Note what a hello or heartbeat says of the agent's clocks. Call it when the frame is read."""
        estimate = estimated(
            self._estimates.get(agent_id),
            Reading(clock_ms, monotonic_ms, milliseconds(self._clock.now()), int(self._clock.monotonic() * 1000)),
        )
        self._estimates[agent_id] = estimate
        correction = correction_ms(estimate)
        if correction:
            self._corrections_ms[agent_id] = correction
        else:
            self._corrections_ms.pop(agent_id, None)
        self._judge(organisation_id, agent_id, estimate.offset_ms)

    def offset_ms(self, agent_id: str) -> int | None:
        """Return how far the agent's clock is ahead; None when this hub has not measured it yet."""
        estimate = self._estimates.get(agent_id)
        return None if estimate is None else estimate.offset_ms

    def correction_ms(self, agent_id: str) -> int:
        """Return what is to be taken off the times an agent says: 0 for a clock that is right, or unknown."""
        return self._corrections_ms.get(agent_id, 0)

    def judged(self) -> Iterator[ClockOffsetMeasured]:
        """Yield what was said last of every agent's clock."""
        yield from list(self._judged.values())

    def forget(self, agent_id: str) -> None:
        self._estimates.pop(agent_id, None)
        self._corrections_ms.pop(agent_id, None)
        self._judged.pop(agent_id, None)

    def _judge(self, organisation_id: str, agent_id: str, offset_ms: int) -> None:
        before = self._judged.get(agent_id)
        skewed = is_skewed(offset_ms, was_skewed=before is not None and before.skewed)
        if before is None or before.skewed is not skewed:
            said = ClockOffsetMeasured(
                organisation_id=organisation_id, agent_id=agent_id, offset_ms=offset_ms, skewed=skewed
            )
            self._judged[agent_id] = said
            self._bus.publish(said)
