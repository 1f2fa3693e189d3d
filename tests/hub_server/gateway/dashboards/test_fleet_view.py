"""Lists of machines: a page is the same part of the whole, however it is found; counts and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hub_server.fleet.model import Agent
from hub_server.fleet.name_order import NameOrder
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.telemetry.model import NewestSample
from protocol.desired import AgentConfig
from protocol.enumerations import AgentStatus, AgentTrust, ConnectionReason
from protocol.operations import AgentsList, FleetOrder, Thresholds
from protocol.requests import AgentFilter
from tests.clocks import FakeClock
from tests.hub_server.presence.fleet import Fleet

ORDERS: Sequence[Any] = get_args(FleetOrder)


def an_agent(agent_id: str, **changes: Any) -> Agent:
    fields: dict[str, Any] = {
        "organisation_id": "o",
        "hostname": f"host-{agent_id}",
        "name": agent_id,
        "site": "",
        "tags": [],
        "os_type": "linux",
        "os_version": "",
        "arch": "",
        "cpu_count": 1,
        "memory_total_bytes": 1,
        "ip_addresses": [],
        "agent_version": "1",
        "boot_id": "",
        "config": AgentConfig(),
        "thresholds": Thresholds(),
        "applied_config_hash": "",
        "enrolled_at": datetime(2026, 1, 1, tzinfo=UTC),
        **changes,
    }
    return Agent(id=agent_id, **fields)


class Seen:
    """A view over real presence and agents that the test gives; `cpu` are their newest values."""

    def __init__(self, *agents: Agent, cpu: dict[str, Any] | None = None) -> None:
        self.agents = {agent.id: agent for agent in agents}
        self.cpu = cpu or {}
        self.fleet = Fleet(FakeClock())
        order = NameOrder()
        for agent in agents:
            order.put(agent)
        agents_of: Any = SimpleNamespace(
            agents=lambda organisation_id: self.agents if organisation_id == "o" else {}, by_name=lambda _: order
        )
        telemetry: Any = SimpleNamespace(newest=self._newest, sample_count=lambda _agent_id: 0)
        alerts: Any = SimpleNamespace(open_counts=lambda _: {}, open_total=lambda _: 0)
        commands: Any = SimpleNamespace(counts=lambda _: {}, pending_total=lambda _: 0)
        self.view = FleetView(
            fleet=agents_of,
            presence=self.fleet.presence,
            telemetry=telemetry,
            alerts=alerts,
            commands=commands,
            clock_offset_ms=lambda _agent_id: None,
        )

    def ids(self, sort: Any = "name", **wanted: Any) -> list[str]:
        request = AgentsList(sort=sort, limit=1000, filter=AgentFilter(**wanted))
        return [agent.id for agent in self.view.page("o", request).agents]

    def _newest(self, agent_id: str) -> dict[str, NewestSample]:
        value = self.cpu.get(agent_id)
        return {} if value is None else {"system": NewestSample(1, {"cpu_percent": value})}


@given(
    names=st.lists(st.text("aAbB", max_size=2), max_size=12),
    values=st.lists(st.sampled_from([None, 0.5, 1, 2.5, "no number"]), min_size=12, max_size=12),
    online=st.sets(st.integers(0, 11)),
    sort=st.sampled_from(ORDERS),
    offset=st.integers(0, 12),
    limit=st.integers(1, 12),
)
def test_a_page_is_a_part_of_the_whole_in_order(
    names: list[str], values: list[Any], online: set[int], sort: Any, offset: int, limit: int
) -> None:
    agents = [an_agent(f"{number:02}", name=name) for number, name in enumerate(names)]
    seen = Seen(*agents, cpu={agent.id: value for agent, value in zip(agents, values, strict=False)})
    for number, agent in enumerate(agents):
        if number in online:
            seen.fleet.clock.advance(number % 3)
            seen.fleet.open(agent.id)
    reply = seen.view.page("o", AgentsList(sort=sort, offset=offset, limit=limit))
    assert [agent.id for agent in reply.agents] == sorted_ids(seen, sort)[offset : offset + limit]
    assert reply.total == len(agents)


def test_a_page_holds_no_more_than_asked_for_where_many_are_level() -> None:
    seen = Seen(*(an_agent(agent_id) for agent_id in "abcd"), cpu={"a": 2, "b": 2, "c": 1, "d": 2})
    reply = seen.view.page("o", AgentsList(sort="cpu", offset=1, limit=1))
    assert [agent.id for agent in reply.agents] == ["a"]
    assert seen.ids("-cpu") == ["a", "b", "d", "c"]


def sorted_ids(seen: Seen, sort: str) -> list[str]:
    """Sort as people expect it: by name, then by the value, those without one at the end."""
    field, descends = sort.lstrip("-"), sort.startswith("-")
    by_name = sorted(seen.agents.values(), key=lambda agent: (agent.name.casefold(), agent.id))
    if field == "name":
        return [agent.id for agent in (by_name[::-1] if descends else by_name)]
    keys: dict[str, Any] = {}
    for agent in by_name:
        match field:
            case "cpu":
                value = seen.cpu.get(agent.id)
                keys[agent.id] = value if isinstance(value, int | float) else None
            case "lastSeen":
                keys[agent.id] = seen.fleet.presence.last_seen_at(agent.id)
            case "status":
                keys[agent.id] = seen.fleet.shown(agent.id)[0].value
            case _:
                keys[agent.id] = None
    known = [agent.id for agent in by_name if keys[agent.id] is not None]
    unknown = [agent.id for agent in by_name if keys[agent.id] is None]
    return sorted(known, key=lambda agent_id: keys[agent_id], reverse=descends) + unknown


def test_every_condition_of_a_filter_must_hold() -> None:
    seen = Seen(
        an_agent("a", site="Bern", tags=["web", "db"], ip_addresses=["192.0.2.7"]),
        an_agent("b", site="Bern", tags=["web"], name="Äpfel"),
        an_agent("c", site="Chur"),
    )
    seen.fleet.open("b", "c")
    assert seen.ids(site="Bern") == ["a", "b"]
    assert seen.ids(tags=["web"], text="192.0") == ["a"]
    assert seen.ids(tags=["web", "db"]) == ["a"]
    assert seen.ids(text="äPF") == ["b"]
    assert seen.ids(status=[AgentStatus.ACTIVE], site="Chur") == ["c"]
    assert seen.ids(text="ahost") == []


def test_machines_are_listed_by_their_ids() -> None:
    seen = Seen(*(an_agent(agent_id) for agent_id in "abcd"))
    assert seen.ids(ids=["d", "b", "of another"]) == ["b", "d"]
    assert seen.ids(ids=[]) == []


def test_the_counts_are_those_of_every_agent() -> None:
    seen = Seen(*(an_agent(agent_id) for agent_id in "abcdef"))
    seen.fleet.open(*"abcd")
    seen.fleet.presence.troubled("b", "disk_failing", present=True)
    seen.fleet.close("c", reason=ConnectionReason.SHUTDOWN)
    counts = seen.view.counts("o")
    assert (counts.active, counts.error, counts.offline) == (2, 1, 3)


def test_why_a_machine_is_kept_out_is_told_until_it_tries_to_come_in() -> None:
    agent = an_agent("a")
    seen = Seen(structs.replace(agent, trust=AgentTrust.QUARANTINED))
    assert seen.view.summary(seen.agents["a"]).status_reason == "quarantined"
    seen.fleet.presence.refused("o", "a", "host-a", "in quarantine", returns_soon=False)
    assert seen.view.summary(seen.agents["a"]).status_reason == "refused: in quarantine"
    seen.fleet.open("a")
    summary = seen.view.summary(agent)
    assert (summary.status_reason, summary.status_since, summary.last_seen) == (
        "",
        seen.fleet.clock.now(),
        seen.fleet.clock.now(),
    )
