"""Newest samples as a feed's frames carry them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

import msgspec

from hub_server.gateway.dashboards.views import Change, Selection
from hub_server.telemetry.model import NewestSample
from protocol.events import AgentsMetrics, FeedSample
from protocol.frames import MetricValue

FRAME_MAX_BYTES: Final = 128 * 1024
"""Of the samples in one frame, but for the last one's."""

Newest = Callable[[str], Mapping[str, NewestSample]]
"""Takes an agent id, returns the newest sample of each metric type."""
_encode: Final = msgspec.json.Encoder().encode


class FeedFrames:
    """Makes the frames of a tick: each sample is encoded once, in however many views it is."""

    def __init__(self, newest: Newest) -> None:
        self._newest = newest

    def frames(
        self, version: int, selection: Selection, changes: Iterable[Change], *, agent_ids: list[str] | None = None
    ) -> list[AgentsMetrics]:
        """Return the frames of one version; `agent_ids`, where given, are in the first."""
        frames, samples, room = [], [], FRAME_MAX_BYTES
        for change in changes:
            encoded = self._encoded(selection, change)
            if encoded is not None:
                samples.append(encoded)
                room -= len(encoded)
                if room <= 0:
                    frames.append(_frame(version, samples, agent_ids))
                    samples, room, agent_ids = [], FRAME_MAX_BYTES, None
        if samples or agent_ids is not None:
            frames.append(_frame(version, samples, agent_ids))
        return frames

    def snapshot(self, version: int, selection: Selection, agent_ids: list[str]) -> tuple[AgentsMetrics, list[str]]:
        """Return the newest samples of the first of these agents, as many as fit, and the agents that are left."""
        samples: list[bytes] = []
        room = FRAME_MAX_BYTES
        for position, agent_id in enumerate(agent_ids):
            if room <= 0:
                return _frame(version, samples, None), agent_ids[position:]
            for change in self.changes_of(selection, agent_id):
                encoded = self._encoded(selection, change)
                if encoded is not None:
                    samples.append(encoded)
                    room -= len(encoded)
        return _frame(version, samples, None), []

    def changes_of(self, selection: Selection, agent_id: str) -> list[Change]:
        """Return what a view shows of an agent that is new in it."""
        return [(agent_id, metric_type) for metric_type in self._newest(agent_id) if selection.shows(metric_type)]

    def _encoded(self, selection: Selection, change: Change) -> bytes | None:
        try:
            return selection.encoded[change]
        except KeyError:
            encoded = selection.encoded[change] = self._encode(selection, change)
            return encoded

    def _encode(self, selection: Selection, change: Change) -> bytes | None:
        agent_id, metric_type = change
        sample = self._newest(agent_id).get(metric_type)
        if sample is None:
            return None
        data = cast("dict[str, MetricValue]", sample.data)
        if selection.metrics:
            data = {name: value for name, value in data.items() if name in selection.metrics}
            if not data:
                return None
        return _encode(FeedSample(agent_id=agent_id, metric_type=metric_type, metric_data=data, timestamp=sample.ts_ms))


def _frame(version: int, samples: list[bytes], agent_ids: list[str] | None) -> AgentsMetrics:
    """The encoder takes samples that are JSON already as they are."""
    ready = cast("list[FeedSample]", [msgspec.Raw(sample) for sample in samples])
    return AgentsMetrics(version=version, samples=ready, agent_ids=agent_ids)
