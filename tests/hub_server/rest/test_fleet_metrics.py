"""The newest values of all machines as Prometheus text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from hub_server.clock import milliseconds
from hub_server.gateway.rest.fleet_metrics import FRESH_MS, LINES_AT_ONCE, FleetMetricsRoutes
from hub_server.gateway.rest.guard import NO_ROUTE, faults_guard
from hub_server.gateway.rest.metrics import MetricsDoor
from protocol.frames import MetricValue
from tests.clocks import FakeClock

CLOCK = FakeClock()
NOW_MS = milliseconds(CLOCK.now())


class Box(Struct):
    id: str
    organisation_id: str = "o1"
    name: str = 'a "quoted"\nname'
    site: str = ""


class Newest(Struct):
    data: Mapping[str, MetricValue]
    ts_ms: int = NOW_MS


class Fleet(Struct):
    samples: Mapping[str, Mapping[str, Newest]]

    def everywhere(self) -> Iterable[Box]:
        return [Box(agent_id) for agent_id in self.samples]

    def newest(self, agent_id: str) -> Mapping[str, Newest]:
        return self.samples[agent_id]


async def answered(fleet: Fleet, token: str | None = None) -> tuple[int, str]:
    application = web.Application(middlewares=[faults_guard(NO_ROUTE)])
    routes = FleetMetricsRoutes(door=MetricsDoor(token=token), clock=CLOCK, machines=fleet, values=fleet)
    application.add_routes(routes.routes())
    async with TestClient(TestServer(application)) as client, client.get("/metrics/fleet") as answer:
        return answer.status, await answer.text()


async def test_every_number_of_every_machine_is_a_line_that_prometheus_reads() -> None:
    system = Newest({"cpu_percent": 12.5, "disk_mount": "/", "load_1m": None})
    fleet = Fleet(
        {"a1": {"system": system, "disk./home": Newest({"percent": 40})}, "a2": {"security": Newest({"on": True})}}
    )
    status, text = await answered(fleet)
    assert status == 200
    found = {
        (sample.name, sample.labels["agent"], sample.labels.get("part"), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found == {
        ("jtnt_agent_cpu_percent", "a1", None, 12.5),
        ("jtnt_agent_disk_percent", "a1", "/home", 40),
        ("jtnt_agent_security_on", "a2", None, 1),
    }
    assert '\\"quoted\\"\\nname' in text


async def test_names_that_prometheus_does_not_tell_apart_are_one_line() -> None:
    """Of a line that comes twice some readers refuse the whole answer: one machine would silence all."""
    fleet = Fleet({"a1": {"odd.1": Newest({"a b": 1, "a_b": 2}), "odd.2": Newest({"a-b": 3})}})
    _, text = await answered(fleet)
    assert text.count("jtnt_agent_odd_a_b{") == 1


async def test_a_machine_that_is_gone_does_not_look_alive() -> None:
    assert await answered(Fleet({"a1": {"system": Newest({"cpu_percent": 1}, NOW_MS - FRESH_MS - 1)}})) == (200, "")


async def test_a_large_fleet_is_written_whole() -> None:
    fleet = Fleet({f"a{number}": {"system": Newest({"cpu_percent": 1})} for number in range(2 * LINES_AT_ONCE + 3)})
    assert (await answered(fleet))[1].count("\njtnt_agent_cpu_percent{") == 2 * LINES_AT_ONCE + 3


async def test_it_is_for_whoever_may_read_the_hubs_metrics() -> None:
    assert (await answered(Fleet({}), token="a secret of some length"))[0] == 403
