"""What dashboards watch: which machines and which of their values, and who watches the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct, field

from hub_server.gateway.dashboards.line import Line
from protocol.operations import FeedSubscribe

Change = tuple[str, str]
"""Agent id and metric type of a sample that is new."""
NO_VIEWS: Final[Sequence[View]] = ()


class Selection(Struct, eq=False):
    """The values that a view shows of a machine; where a set is empty, all.

    `encoded` holds samples of the present tick as JSON, by agent and metric type: they are the same in every view of
    this selection. None: nothing in them is selected.
    """

    metric_types: frozenset[str]
    metrics: frozenset[str]
    is_all: bool
    """All metric types are shown."""
    encoded: dict[Change, bytes | None] = field(default_factory=dict)

    def shows(self, metric_type: str) -> bool:
        return self.is_all or metric_type in self.metric_types


class Watcher(Struct, eq=False):
    """One client that watches a view.

    `unsent`: machines of which its snapshot is yet to bring the newest samples. `is_behind`: it gets nothing until its
    line is drained and, with `owes_word`, it has confirmed something.
    """

    socket_id: str
    line: Line
    view: View
    acknowledged: int
    unsent: list[str] = field(default_factory=list)
    is_behind: bool = False
    owes_word: bool = False


class View(Struct, eq=False):
    """`request`: what was asked for. `changed`: samples that are new since the last tick, by agent and metric type."""

    organisation_id: str
    request: FeedSubscribe
    selection: Selection
    key: bytes
    agent_ids: dict[str, None] = field(default_factory=dict)
    version: int = 0
    watchers: dict[str, Watcher] = field(default_factory=dict)
    changed: dict[Change, None] = field(default_factory=dict)
    is_moved: bool = False
    """The machines are others than the last frame said."""

    @property
    def follows_fleet(self) -> bool:
        return self.request.agent_ids is None


class Views:
    """Every view that somebody watches, and which of them show a machine."""

    def __init__(self) -> None:
        self._views: dict[bytes, View] = {}
        self._selections: dict[tuple[frozenset[str], frozenset[str]], Selection] = {}
        self._showing: dict[str, list[View]] = {}

    def __len__(self) -> int:
        return len(self._views)

    def all(self) -> Collection[View]:
        return self._views.values()

    def selections(self) -> Collection[Selection]:
        return self._selections.values()

    def showing(self, agent_id: str) -> Sequence[View]:
        return self._showing.get(agent_id, NO_VIEWS)

    def obtain(self, organisation_id: str, request: FeedSubscribe) -> View:
        """Return the view of all who ask for the same. One that is new shows no machine yet."""
        key = _key_of(organisation_id, request)
        view = self._views.get(key)
        if view is None:
            wanted = (frozenset(request.metric_types), frozenset(request.metrics))
            selection = self._selections.setdefault(wanted, Selection(*wanted, not request.metric_types))
            view = self._views[key] = View(organisation_id, request, selection, key)
        return view

    def show(self, view: View, agent_ids: Iterable[str]) -> list[str]:
        """Let the view show these machines, in this order. Returns those it did not show before."""
        before, view.agent_ids = view.agent_ids, dict.fromkeys(agent_ids)
        gone = before.keys() - view.agent_ids.keys()
        for agent_id in gone:
            self._hide(view, agent_id)
        if gone:
            view.changed = {change: None for change in view.changed if change[0] in view.agent_ids}
        new = [agent_id for agent_id in view.agent_ids if agent_id not in before]
        for agent_id in new:
            self._showing.setdefault(agent_id, []).append(view)
        return new

    def release(self, watcher: Watcher) -> None:
        """Take a client from its view; one that nobody watches is forgotten."""
        view = watcher.view
        del view.watchers[watcher.socket_id]
        if not view.watchers:
            self.show(view, ())
            del self._views[view.key]
            if not any(other.selection is view.selection for other in self._views.values()):
                del self._selections[view.selection.metric_types, view.selection.metrics]

    def _hide(self, view: View, agent_id: str) -> None:
        shown = self._showing[agent_id]
        shown.remove(view)
        if not shown:
            del self._showing[agent_id]


def _key_of(organisation_id: str, request: FeedSubscribe) -> bytes:
    asked = msgspec.structs.replace(
        request,
        agent_ids=None if request.agent_ids is None else sorted(set(request.agent_ids)),
        metrics=sorted(set(request.metrics)),
        metric_types=sorted(set(request.metric_types)),
    )
    return msgspec.json.encode((organisation_id, asked))
