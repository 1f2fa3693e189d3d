"""Machines in the order of their names, whatever came, went and was renamed."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hub_server.fleet.model import Agent
from hub_server.fleet.name_order import NameOrder, rank_of
from tests.hub_server.gateway.dashboards.test_fleet_view import an_agent

names = st.sampled_from(["a", "A", "b", "ß", "ss", "Ä", ""])
deeds = st.lists(st.tuples(st.sampled_from(["one", "two", "three", "four"]), names | st.none()), max_size=30)


@given(deeds)
def test_it_is_as_if_all_were_sorted_anew(done: Sequence[tuple[str, str | None]]) -> None:
    """A deed without a name is a removal, also of one that is not there."""
    order, agents = NameOrder(), dict[str, Agent]()
    for agent_id, name in done:
        if name is None:
            order.remove(agent_id)
            agents.pop(agent_id, None)
        else:
            agents[agent_id] = structs.replace(an_agent(agent_id), name=name)
            order.put(agents[agent_id])
    assert list(order) == [agent.id for agent in sorted(agents.values(), key=rank_of)]
    assert order.part(1, 3) == list(order)[1:3]
