"""The first machines by name: what a client is shown that asked for nothing, as seed 004 has it."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nsmallest
from typing import Final

from msgspec import Struct

from hub_server.fleet.model import Agent
from hub_server.fleet.name_order import Rank, rank_of
from hub_server.fleet.service import FleetService
from protocol.limits import UNSUBSCRIBED_AGENTS_MAX

NOBODY: Final[Mapping[str, None]] = {}


class _First(Struct):
    agent_ids: dict[str, None]
    last: Rank | None
    """Of the last one, where others may follow it."""


class FirstAgents:
    """Sorted anew only when one of them, or one that belongs among them, was noted as changed."""

    def __init__(self, fleet: FleetService) -> None:
        self._fleet = fleet
        self._first: dict[str, _First] = {}

    def ids(self, organisation_id: str) -> Mapping[str, None]:
        """Return their ids in order; one of them may be deleted by now."""
        first = self._first.get(organisation_id)
        if first is None:
            first = self._first[organisation_id] = _first_of(self._fleet.agents(organisation_id))
        return first.agent_ids

    def note(self, organisation_id: str, agent_id: str) -> None:
        """This agent came, changed or went."""
        first = self._first.get(organisation_id)
        if first is None:
            return
        agent = self._fleet.agents(organisation_id).get(agent_id)
        belongs = agent is not None and (first.last is None or rank_of(agent) < first.last)
        if belongs or agent_id in first.agent_ids:
            del self._first[organisation_id]

    def forget(self) -> None:
        """Nobody knows what has changed."""
        self._first.clear()


def _first_of(agents: Mapping[str, Agent]) -> _First:
    chosen = nsmallest(UNSUBSCRIBED_AGENTS_MAX, agents.values(), key=rank_of)
    is_full = len(chosen) == UNSUBSCRIBED_AGENTS_MAX
    return _First({agent.id: None for agent in chosen}, rank_of(chosen[-1]) if is_full else None)
