"""The hub's own figures: one name each, stored as a sample, shown to administrators."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.composition.figures import CpuShare
from hub_server.errors import Forbidden
from hub_server.instruments import Instruments
from hub_server.vitals.model import METRIC_TYPE, bounded, figure_name, quantile
from hub_server.vitals.service import VitalsService
from protocol.enumerations import Role
from protocol.frames import Metrics, StreamAck
from protocol.limits import METRIC_NAMES_MAX
from protocol.telemetry import HubHealth, HubMetrics, MetricsQuery, MetricsQueryReply
from tests.clocks import FakeClock

HOME = "home"


class Store:
    """Takes samples unless it is behind, and notes what is asked of it."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, str, Metrics]] = []
        self.asked: list[tuple[str, MetricsQuery]] = []
        self.is_behind = False
        self.known = ""

    def receive(self, organisation_id: str, agent_id: str, frame: Metrics) -> bool:
        self.frames.append((organisation_id, agent_id, frame))
        return not self.is_behind

    def acknowledged(self, agent_id: str) -> Mapping[str, StreamAck]:
        return {"live": StreamAck(epoch=5, ranges=[(1, 8)])} if agent_id == self.known else {}

    async def query(self, principal: Principal, request: MetricsQuery) -> MetricsQueryReply:
        self.asked.append((principal.organisation_id, request))
        return MetricsQueryReply(series=[], resolution_sec=10)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def vitals(store: Store, clock: FakeClock) -> VitalsService:
    async def home() -> str:
        return HOME

    service = VitalsService(
        clock=clock, hub_id="h1", read=lambda: {"agents_connected": 3.0}, organisation=home, samples=store
    )
    await service.load()
    return service


def person(organisation_id: str, role: Role) -> Principal:
    return Principal(user_id="u", username="ada", organisation_id=organisation_id, role=role)


async def test_figures_are_stored_as_samples_of_the_hub(vitals: VitalsService, store: Store) -> None:
    await vitals.sample()
    store.is_behind = True
    await vitals.sample()
    assert [(organisation, agent) for organisation, agent, _ in store.frames] == [(HOME, "hub:h1")] * 2
    samples = [frame.samples[0] for _, _, frame in store.frames]
    assert [sample.seq for sample in samples] == [1, 2]
    assert {(sample.metric_type, sample.metric_data["agents_connected"]) for sample in samples} == {(METRIC_TYPE, 3.0)}


async def test_a_restarted_hub_goes_on_in_its_numbering(vitals: VitalsService, store: Store) -> None:
    store.known = "hub:h1"
    await vitals.load()
    await vitals.sample()
    (frame,) = (frame for _, _, frame in store.frames)
    assert (frame.epoch, frame.samples[0].seq) == (5, 9)


@pytest.mark.parametrize(
    ("organisation_id", "role", "may"),
    [
        (HOME, Role.ORG_ADMIN, True),
        ("another", Role.HUB_ADMIN, True),
        ("another", Role.ORG_ADMIN, False),
        (HOME, Role.VIEWER, False),
    ],
)
async def test_administrators_of_the_hub_see_its_figures(
    vitals: VitalsService, store: Store, organisation_id: str, role: Role, may: bool
) -> None:
    who, asked = person(organisation_id, role), HubMetrics(metrics=["agents_connected"], from_=0, to=10)
    if not may:
        for question in (vitals.health(who, HubHealth()), vitals.history(who, asked)):
            with pytest.raises(Forbidden):
                await question
        return
    assert (await vitals.health(who, HubHealth())).figures == {"agents_connected": 3.0}
    await vitals.history(who, asked)
    assert [(where, query.agent_ids, query.metric_type) for where, query in store.asked] == [
        (HOME, ["hub:h1"], METRIC_TYPE)
    ]


def test_a_labelled_metric_has_one_name() -> None:
    assert figure_name("jtnt_bus_buffered", {"listener": "live-feed"}) == "bus_buffered_live_feed"
    assert figure_name("jtnt_agents_connected", {}) == "agents_connected"


def test_a_sample_holds_no_more_figures_than_it_may() -> None:
    assert len(bounded({f"f{number}": 1.0 for number in range(METRIC_NAMES_MAX + 9)})) == METRIC_NAMES_MAX


def test_a_quantile_is_a_value_that_was_seen() -> None:
    assert (quantile([], 0.99), quantile([5, 1, 3], 0.5), quantile(range(100), 0.99)) == (0.0, 3, 99)


def test_the_lag_of_a_figure_is_that_since_the_last_reading() -> None:
    bus = InProcessBus()
    instruments = Instruments(bus)
    instruments.gauge("jtnt_agents_connected", "Agents", lambda: 7)
    instruments.counter("jtnt_agents_refused", "Refused", ["reason"], lambda: {("full",): 2})
    instruments.observe_lag(0.25)
    with bus.subscribe(frozenset({"alerts"}), name="a-b", capacity=1, overflow=Overflow.DROP_OLDEST):
        figures = instruments.figures()
    assert figures["loop_lag_max_ms"] == 250
    assert (figures["agents_connected"], figures["agents_refused_total_full"], figures["bus_buffered_a_b"]) == (7, 2, 0)
    assert instruments.figures()["loop_lag_max_ms"] == 0


def test_a_count_without_labels_is_a_counter() -> None:
    instruments = Instruments(InProcessBus())
    instruments.count("jtnt_heap_freezes", "Freezes", lambda: 4)
    assert instruments.figures()["heap_freezes_total"] == 4
    assert b"jtnt_heap_freezes_total 4.0" in instruments.text()


def test_the_share_of_a_core_is_that_since_the_last_look() -> None:
    spent, elapsed = iter((1.0, 1.5, 1.5)), iter((10.0, 12.0, 12.0))
    share = CpuShare(cpu=lambda: next(spent), now=lambda: next(elapsed))
    assert (share(), share()) == (25.0, 0.0)
