"""The bus of one process: order, bounds, and what happens at them."""

import asyncio
from datetime import UTC, datetime

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.events import AgentChanged, AgentConnected, DomainEvent, MetricsReceived, topic_of
from protocol.enumerations import Lane

FLEET = frozenset({"fleet"})


def changed(agent_id: str) -> AgentChanged:
    return AgentChanged(organisation_id="o", agent_id=agent_id)


def received(agent_id: str, epoch: int) -> MetricsReceived:
    return MetricsReceived(
        organisation_id="o", agent_id=agent_id, lane=Lane.LIVE, epoch=epoch, samples=[], received_monotonic=0.0
    )


async def test_events_arrive_in_the_order_of_publication() -> None:
    bus = InProcessBus()
    with bus.subscribe(FLEET, name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as events:
        published: list[DomainEvent] = [changed(str(number)) for number in range(5)]
        assert all(bus.publish(event) for event in published)
        assert await events.batch(10) == published


async def test_a_listener_hears_only_its_families() -> None:
    bus = InProcessBus()
    with bus.subscribe(FLEET, name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as events:
        bus.publish(AgentConnected(organisation_id="o", agent_id="a", hostname="h", at=datetime.now(UTC)))
        bus.publish(changed("a"))
        assert await events.batch(10) == [changed("a")]


async def test_a_waiting_listener_wakes_up_for_the_first_event() -> None:
    bus = InProcessBus()
    with bus.subscribe(FLEET, name="test", capacity=10, overflow=Overflow.DROP_OLDEST) as events:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(events.batch(1))
            await asyncio.sleep(0)
            bus.publish(changed("a"))
        assert waiting.result() == [changed("a")]


async def test_a_full_listener_that_refuses_keeps_the_event_from_everybody() -> None:
    bus = InProcessBus()
    with (
        bus.subscribe(FLEET, name="strict", capacity=1, overflow=Overflow.REFUSE) as strict,
        bus.subscribe(FLEET, name="lenient", capacity=9, overflow=Overflow.DROP_OLDEST) as lenient,
    ):
        assert bus.publish(changed("first"))
        assert not bus.publish(changed("second"))
        assert lenient.buffered == 1
        assert await strict.batch(9) == [changed("first")]
        assert bus.publish(changed("second"))


async def test_a_full_listener_that_drops_loses_the_oldest_and_counts_it() -> None:
    bus = InProcessBus()
    with bus.subscribe(FLEET, name="test", capacity=2, overflow=Overflow.DROP_OLDEST) as events:
        for agent_id in "abc":
            bus.publish(changed(agent_id))
        assert await events.batch(9) == [changed("b"), changed("c")]
        assert events.dropped == 1


async def test_the_latest_event_of_an_agent_replaces_its_earlier_one() -> None:
    bus = InProcessBus()
    with bus.subscribe(frozenset({"telemetry"}), name="t", capacity=2, overflow=Overflow.LATEST_PER_KEY) as events:
        for event in (received("a", 1), received("b", 1), received("a", 2)):
            bus.publish(event)
        assert await events.batch(9) == [received("b", 1), received("a", 2)]
        assert events.dropped == 0


async def test_beyond_its_capacity_the_stalest_agent_goes() -> None:
    bus = InProcessBus()
    with bus.subscribe(frozenset({"telemetry"}), name="t", capacity=2, overflow=Overflow.LATEST_PER_KEY) as events:
        for agent_id in "abc":
            bus.publish(received(agent_id, 1))
        assert await events.batch(9) == [received("b", 1), received("c", 1)]
        assert events.dropped == 1


async def test_a_listener_that_left_hears_nothing_and_is_not_counted() -> None:
    bus = InProcessBus()
    with bus.subscribe(FLEET, name="test", capacity=1, overflow=Overflow.REFUSE):
        assert [subscription.name for subscription in bus.subscriptions()] == ["test"]
    assert bus.subscriptions() == []
    assert bus.publish(changed("a"))
    assert bus.publish(changed("b"))


@pytest.mark.parametrize(
    ("event", "topic"), [(changed("a"), "fleet.o.a"), (received("a", 1), "telemetry.o.a")], ids=["fleet", "telemetry"]
)
def test_topics_name_family_organisation_and_agent(event: DomainEvent, topic: str) -> None:
    assert topic_of(event) == topic
