"""Queries of history: which agents are meant, what is read, what is answered, and what is too much."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from hub_server.errors import Forbidden, InvalidRequest, Unavailable
from hub_server.telemetry import query as query_module
from hub_server.telemetry.charts import DAY_MS, HOUR_MS, MINUTE_MS, GroupSeries
from hub_server.telemetry.model import Resolution
from hub_server.telemetry.query import MetricHistory
from protocol.requests import AgentFilter
from protocol.telemetry import MetricsQuery, MetricsQueryReply
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import NOW_MS, viewer_of
from tests.hub_server.telemetry.histories import MemoryStore, Samples

KEPT_DAYS = {Resolution.RAW: 7, Resolution.MINUTE: 30, Resolution.FIVE_MINUTES: 180, Resolution.HOUR: 730}


@dataclass
class Machine:
    id: str
    name: str = ""
    site: str = ""
    os_type: str = "linux"
    tags: list[str] = field(default_factory=list)


class Machines:
    """A fleet of one organisation; of a filter only the site counts here."""

    def __init__(self, *machines: Machine) -> None:
        self.machines = machines

    def matching(self, organisation_id: str, wanted: AgentFilter) -> Sequence[Machine]:
        found = self.machines if organisation_id == "o" else ()
        return [machine for machine in found if wanted.site in {None, machine.site}]

    def named(self, organisation_id: str, agent_ids: Sequence[str]) -> Sequence[Machine]:
        machines = {machine.id: machine for machine in self.matching(organisation_id, AgentFilter())}
        return [machines[agent_id] for agent_id in agent_ids if agent_id in machines]


class Past:
    """History over a store in memory."""

    def __init__(self, *machines: Machine) -> None:
        self.store = MemoryStore()
        self._history = MetricHistory(
            store=self.store.as_port(), fleet=Machines(*machines), clock=FakeClock(), kept_days=KEPT_DAYS
        )

    async def ask(self, length_ms: int, *, organisation_id: str = "o", **changes: Any) -> MetricsQueryReply:
        to_ms = changes.pop("to", NOW_MS)
        fields: dict[str, Any] = {"metrics": ["cpu_percent"], "from_": to_ms - length_ms, "to": to_ms, **changes}
        return await self._history.query(viewer_of(organisation_id), MetricsQuery(**fields))


def every(step_ms: int, length_ms: int, **values: float) -> Samples:
    return [(NOW_MS - ago, {"cpu_percent": ago / step_ms, **values}) for ago in range(length_ms, 0, -step_ms)]


async def test_samples_come_as_they_are_where_they_fit() -> None:
    past = Past()
    past.store.put("a", every(10_000, HOUR_MS))
    reply = await past.ask(HOUR_MS, agent_ids=["a", "b", "a"])
    assert (reply.resolution, reply.resolution_sec) == ("raw", 0)
    assert [series.agent_id for series in reply.series] == ["a", "b"]
    assert reply.series[0].values == {"cpu_percent": [float(n) for n in range(360, 0, -1)]}
    assert reply.series[0].minima == {}
    assert reply.series[1].timestamps == []


async def test_too_many_samples_are_summed_up() -> None:
    past = Past()
    past.store.put("a", every(1000, HOUR_MS))
    reply = await past.ask(HOUR_MS, agent_ids=["a"])
    assert (reply.resolution, reply.resolution_sec) == ("raw", 10)
    (series,) = reply.series
    assert (series.values["cpu_percent"][0], series.minima["cpu_percent"][0]) == (3595.5, 3591.0)
    assert len(series.timestamps) == 360


async def test_a_day_is_made_of_rollups_and_says_so() -> None:
    past = Past()
    past.store.put("a", every(MINUTE_MS, DAY_MS, network_bytes_sent=7))
    reply = await past.ask(DAY_MS, agent_ids=["a"], metrics=["cpu_percent", "network_bytes_sent"])
    assert (reply.resolution, reply.resolution_sec) == ("5m", 300)
    (series,) = reply.series
    assert series.values["cpu_percent"][0] == 1438.0
    assert (series.minima["cpu_percent"][0], series.maxima["cpu_percent"][0]) == (1436.0, 1440.0)
    assert series.values["network_bytes_sent"] == [7] * 288
    assert "network_bytes_sent" not in series.minima
    assert past.store.reads == [Resolution.FIVE_MINUTES]


async def test_one_point_is_of_the_whole_span() -> None:
    past = Past()
    past.store.put("a", every(10_000, 4 * HOUR_MS))
    (series,) = (await past.ask(3 * HOUR_MS - 7, to=NOW_MS - HOUR_MS, agent_ids=["a"], max_points=1)).series
    assert series.timestamps == [NOW_MS - 4 * HOUR_MS]
    assert series.values["cpu_percent"] == [900.5]


async def test_the_future_makes_no_chart_coarser() -> None:
    past = Past()
    past.store.put("a", every(1000, HOUR_MS))
    assert (await past.ask(400 * DAY_MS, to=NOW_MS + 400 * DAY_MS - HOUR_MS, agent_ids=["a"])).resolution_sec == 10


async def test_few_samples_of_a_long_time_come_as_they_are() -> None:
    past = Past()
    past.store.put("a", every(15 * MINUTE_MS, DAY_MS), kind="security")
    reply = await past.ask(DAY_MS, agent_ids=["a"], metric_type="security")
    assert reply.resolution == "raw"
    assert len(reply.series[0].timestamps) == 96
    older = await past.ask(8 * DAY_MS, agent_ids=["a"], metric_type="security")
    assert older.resolution == "5m"  # there may have been more than are kept


async def test_what_is_asked_twice_or_of_nobody_is_answered_once_or_with_nothing() -> None:
    past = Past()
    past.store.put("a", every(10_000, HOUR_MS))
    reply = await past.ask(HOUR_MS, agent_ids=["a"], metrics=["cpu_percent", "nothing", "cpu_percent"])
    assert list(reply.series[0].values) == ["cpu_percent", "nothing"]
    assert set(reply.series[0].values["nothing"]) == {None}
    assert (await past.ask(HOUR_MS, filter=AgentFilter(site="Nowhere"))).series == []
    assert (await past.ask(HOUR_MS, to=NOW_MS + DAY_MS, agent_ids=["a"])).series[0].timestamps == []


async def test_another_organisation_s_agents_are_nobody() -> None:
    past = Past(Machine("a", site="Bern"))
    past.store.put("a", every(10_000, HOUR_MS))
    for asked in ({"agent_ids": ["a"]}, {"filter": AgentFilter()}, {"agent_ids": ["a"], "group_by": "all"}):
        reply = await past.ask(HOUR_MS, organisation_id="other", **asked)
        assert not any(series.timestamps for series in reply.series)


async def test_the_hubs_own_figures_are_not_for_everybody_who_sees_the_fleet() -> None:
    past = Past()
    past.store.put("hub:h1", every(10_000, HOUR_MS), kind="hub")
    with pytest.raises(Forbidden):
        await past.ask(HOUR_MS, agent_ids=["hub:h1"], metric_type="hub")
    assert past.store.reads == []


async def test_a_filter_means_machines_by_name() -> None:
    past = Past(Machine("1", "zoe", "Bern"), Machine("2", "Adam", "Bern"), Machine("3", "bob", "Chur"))
    reply = await past.ask(HOUR_MS, filter=AgentFilter(site="Bern"))
    assert [series.agent_id for series in reply.series] == ["2", "1"]


async def test_groups_are_made_of_all_their_machines() -> None:
    past = Past(
        Machine("1", site="Bern", os_type="linux", tags=["web", "db", "web"]),
        Machine("2", site="Bern", os_type="windows", tags=["web"]),
        Machine("3", site="", os_type="linux"),
    )
    for number, agent_id in enumerate("123"):
        samples = [(NOW_MS - 90_000, {"cpu_percent": 10.0 * number, "network_bytes_sent": 100 + number})]
        past.store.put(agent_id, samples)

    async def told(grouping: str) -> dict[str, tuple[float | None, ...]]:
        metrics = ["cpu_percent", "network_bytes_sent"]
        reply = await past.ask(HOUR_MS, filter=AgentFilter(), group_by=grouping, metrics=metrics)
        assert (reply.resolution, reply.resolution_sec) == ("1m", 60)
        return {
            series.group: (series.agents, *(series.values[metric][0] for metric in metrics)) for series in reply.series
        }

    assert await told("all") == {"": (3, 10.0, 303)}
    assert await told("site") == {"": (1, 20.0, 102), "Bern": (2, 5.0, 201)}
    assert await told("os") == {"linux": (2, 10.0, 202), "windows": (1, 10.0, 101)}
    assert await told("tag") == {"": (1, 20.0, 102), "db": (1, 0.0, 100), "web": (2, 5.0, 201)}
    named = await past.ask(HOUR_MS, agent_ids=["3", "gone", "3"], group_by="all")
    assert (named.series[0].agents, named.series[0].values["cpu_percent"]) == (1, [20.0])


async def test_a_large_fleet_is_read_in_slices() -> None:
    machines = [Machine(str(number), site="Bern") for number in range(450)]
    past = Past(*machines)
    for machine in machines:
        past.store.put(machine.id, [(NOW_MS - 1, {"cpu_percent": 1.0})])
    reply = await past.ask(HOUR_MS, filter=AgentFilter(), group_by="all")
    assert reply.series[0].agents == 450
    assert reply.series[0].values["cpu_percent"] == [1.0]
    assert max(past.store.asked_agents) == 100
    assert sum(past.store.asked_agents) == 450


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "give either `agentIds` or a `filter`"),
        ({"agent_ids": ["a"], "filter": AgentFilter()}, "give either `agentIds` or a `filter`"),
        ({"agent_ids": ["a"], "to": NOW_MS, "from_": NOW_MS}, "`from` must be before `to`"),
        ({"filter": AgentFilter(), "max_points": 5000}, "ask with `groupBy`"),
        ({"filter": AgentFilter(), "group_by": "tag", "max_points": 5000}, "a narrower `filter`"),
    ],
)
async def test_what_cannot_be_answered_says_what_to_do(asked: dict[str, Any], says: str) -> None:
    past = Past(*(Machine(str(number), tags=[f"tag{number}"]) for number in range(5000)))
    with pytest.raises(InvalidRequest, match=says):
        await past.ask(HOUR_MS, **asked)
    assert past.store.reads == []


async def test_what_is_made_of_much_history_is_made_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred machines' charts take seconds to reckon: the hub must go on meanwhile. One machine's take less than the
    way to a thread and back."""
    threads: set[int] = set()

    def noted(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            threads.add(threading.get_ident())
            return work(*arguments)

        return run

    for name in ("in_points", "series_of_rollup", "series_of_samples"):
        monkeypatch.setattr(query_module, name, noted(getattr(query_module, name)))
    monkeypatch.setattr(GroupSeries, "add", noted(GroupSeries.add))
    monkeypatch.setattr(GroupSeries, "result", noted(GroupSeries.result))
    many = [f"agent-{number}" for number in range(50)]
    past = Past(*map(Machine, many))
    for agent_id in many:
        past.store.put(agent_id, every(1000 if agent_id == many[0] else 60_000, 2 * HOUR_MS))
    for agent_ids, asked in (
        (many[:1], {"max_points": 5000}),
        (many[:1], {"max_points": 500}),
        (many, {"max_points": 60}),
        (many, {"group_by": "all"}),
    ):
        assert (await past.ask(HOUR_MS, agent_ids=agent_ids, **asked)).series
    assert threads
    assert threading.get_ident() not in threads
    threads.clear()
    assert (await past.ask(HOUR_MS, agent_ids=many[:1], max_points=60)).series
    assert threads == {threading.get_ident()}


async def test_a_history_that_would_take_too_long_is_not_begun() -> None:
    past = Past(*(Machine(str(number)) for number in range(20_000)))
    with pytest.raises(InvalidRequest, match="a shorter time"):
        await past.ask(365 * DAY_MS, filter=AgentFilter(), group_by="all")
    assert past.store.reads == []


async def test_a_store_that_fails_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past()
    past.store.fails = True
    with pytest.raises(Unavailable, match="try again later"):
        await past.ask(HOUR_MS, agent_ids=["a"])
    past.store.fails = False
    past.store.hangs = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(query_module, "DEADLINE_SECONDS", 0.01)
    with pytest.raises(Unavailable, match="took too long"):
        await past.ask(HOUR_MS, agent_ids=["a"])


async def test_who_comes_to_a_full_line_is_refused_at_once_and_the_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(query_module, "WAITING_MAX", 2)
    past = Past()
    past.store.hangs = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        asking = [
            tasks.create_task(past.ask(HOUR_MS, agent_ids=["a"]), name="ask") for _ in range(query_module.AT_ONCE + 2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await past.ask(HOUR_MS, agent_ids=["a"])
        asking[-1].cancel()
        await asyncio.sleep(0)
        asking.append(tasks.create_task(past.ask(HOUR_MS, agent_ids=["a"]), name="ask"))
        await asyncio.sleep(0)
        past.store.hangs.set_result(None)
    assert refused.value.retry_after_seconds == 1
    assert [task.cancelled() for task in asking] == [False] * (query_module.AT_ONCE + 1) + [True, False]
