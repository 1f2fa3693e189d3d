"""Which views are to be looked at again because the fleet has changed: at a bounded cost, however often it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.views import View, Views

SHARE: Final = 0.05
"""Of the time, for all views together. Filtering and sorting a large fleet takes milliseconds."""
SAVED_MAX_SECONDS: Final = 0.02
VALUES_SECONDS: Final = 5.0
"""How often a view that is sorted by what machines report is looked at again; nobody says when that changes."""
BY_NAME: Final = ("name", "-name")


class Following:
    """Views by filter show what passes it now, from the first to the last of those asked for.

    `seconds` is a clock that never goes back. What is due and not paid for yet is looked at in a later tick, in turn.
    """

    def __init__(self, *, views: Views, fleet_view: FleetView, seconds: Callable[[], float]) -> None:
        self._views = views
        self._fleet_view = fleet_view
        self._seconds = seconds
        self._due: dict[View, None] = {}
        self._saved_seconds = SAVED_MAX_SECONDS
        self._seen_at = seconds()
        self._values_at = self._seen_at

    def agents_of(self, view: View) -> list[str]:
        """Return the agents that pass the view's filter now, in its order."""
        asked = view.request
        shown, _ = self._fleet_view.window(view.organisation_id, asked.filter, asked.sort, asked.offset, asked.limit)
        return [agent.id for agent in shown]

    def fleet_changed(self, organisation_ids: Iterable[str]) -> None:
        """Agents of these organisations came, went or changed."""
        changed = frozenset(organisation_ids)
        for view in self._views.all():
            if view.follows_fleet and view.organisation_id in changed:
                self._due[view] = None

    def follow(self) -> list[tuple[View, list[str]]]:
        """Look at what is due. Returns the views that show other machines now, with those that are new in each."""
        now = self._seconds()
        self._saved_seconds = min(SAVED_MAX_SECONDS, self._saved_seconds + (now - self._seen_at) * SHARE)
        self._seen_at = now
        if now - self._values_at >= VALUES_SECONDS:
            self._values_at = now
            self._due.update((view, None) for view in self._views.all() if _is_by_value(view))
        moved = []
        while self._due and self._saved_seconds > 0:
            view = next(iter(self._due))
            del self._due[view]
            if view.watchers:
                agent_ids = self.agents_of(view)
                if agent_ids != list(view.agent_ids):
                    moved.append((view, self._views.show(view, agent_ids)))
            before, now = now, self._seconds()
            self._saved_seconds -= now - before
        return moved


def _is_by_value(view: View) -> bool:
    return view.follows_fleet and view.request.sort not in BY_NAME
