"""Single `agent:metrics` events, for clients that never asked for a feed: the first machines by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from hub_server.gateway.dashboards.first_agents import NOBODY, FirstAgents
from hub_server.gateway.dashboards.lines import Lines
from hub_server.gateway.dashboards.rooms import unsubscribed_room
from hub_server.gateway.dashboards.samples import Newest
from hub_server.gateway.dashboards.views import Change
from protocol.events import AgentMetrics


class Singles:
    def __init__(self, lines: Lines, first: FirstAgents, newest: Newest) -> None:
        self._lines = lines
        self._first = first
        self._newest = newest
        self._shown: dict[str, Mapping[str, None]] = {}
        self._changed: dict[str, dict[Change, None]] = {}

    def shows(self, organisation_id: str, agent_id: str) -> bool:
        """Whether anybody is to hear of this agent; decided anew for each tick."""
        shown = self._shown.get(organisation_id)
        if shown is None:
            is_heard = self._lines.is_anybody_in(unsubscribed_room(organisation_id))
            shown = self._shown[organisation_id] = self._first.ids(organisation_id) if is_heard else NOBODY
        return agent_id in shown

    def note(self, organisation_id: str, change: Change) -> None:
        self._changed.setdefault(organisation_id, {})[change] = None

    def tell(self) -> None:
        """Send what was noted; the tick is over."""
        for organisation_id, changed in self._changed.items():
            for agent_id, metric_type in changed:
                sample = self._newest(agent_id).get(metric_type)
                if sample is not None:
                    event = AgentMetrics(
                        agent_id=agent_id,
                        metric_type=metric_type,
                        metric_data=cast("dict[str, Any]", sample.data),
                        timestamp=sample.ts_ms,
                    )
                    self._lines.tell(event, unsubscribed_room(organisation_id))
        self._changed.clear()
        self._shown.clear()
