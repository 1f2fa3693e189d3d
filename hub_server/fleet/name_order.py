"""An organisation's machines in the order of their names, kept so while they come, go and are renamed."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from hub_server.fleet.model import Agent

Rank = tuple[str, str]


class NameOrder:
    """A change costs a search and a move of pointers, a page of it nothing but the page."""

    def __init__(self) -> None:
        self._ranks: list[Rank] = []
        self._rank_of: dict[str, Rank] = {}

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of all, by name, then by id."""
        return (agent_id for _, agent_id in self._ranks)

    def part(self, first: int, end: int) -> list[str]:
        return [agent_id for _, agent_id in self._ranks[first:end]]

    def put(self, agent: Agent) -> None:
        """Take an agent in, or note that it may have another name."""
        rank = rank_of(agent)
        if self._rank_of.get(agent.id) != rank:
            self.remove(agent.id)
            insort(self._ranks, rank)
            self._rank_of[agent.id] = rank

    def remove(self, agent_id: str) -> None:
        rank = self._rank_of.pop(agent_id, None)
        if rank is not None:
            del self._ranks[bisect_left(self._ranks, rank)]


def rank_of(agent: Agent) -> Rank:
    return agent.name.casefold(), agent.id
