from collections.abc import Iterator

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.events import CommandFinished, CommandOutputStored, CommandStatusChanged, Deliver, DomainEvent
from hub_server.storage.engine import Database
from protocol.enumerations import CommandStatus
from protocol.frames import Command, CommandCancel, CommandOutputAck, HubFrame
from tests.clocks import FakeClock
from tests.hub_server.commands.builders import Hub, KnownAgents


@pytest.fixture
def hub(database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str) -> Hub:
    return Hub(database, bus, clock, organisation_id, KnownAgents())


@pytest.fixture
async def agent_id(hub: Hub) -> str:
    return await hub.add_agent()


class Listener:
    """What was said since the last question."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription

    async def events(self) -> list[DomainEvent]:
        return await self.subscription.batch(10_000) if self.subscription.buffered else []

    async def statuses(self) -> list[CommandStatus]:
        return [event.status for event in await self.events() if isinstance(event, CommandStatusChanged)]

    async def ends(self) -> list[CommandFinished]:
        return [event for event in await self.events() if isinstance(event, CommandFinished)]

    async def stored(self) -> list[tuple[int, bytes]]:
        return [(event.offset, event.data) for event in await self.events() if isinstance(event, CommandOutputStored)]

    async def next(self) -> HubFrame:
        """Wait for the next frame for an agent."""
        [event] = await self.subscription.batch(1)
        assert isinstance(event, Deliver)
        return event.frame

    async def acks(self) -> list[CommandOutputAck]:
        frames = [event.frame for event in await self.events() if isinstance(event, Deliver)]
        return [frame for frame in frames if isinstance(frame, CommandOutputAck)]

    async def frames(self) -> list[Command | CommandCancel]:
        return [
            event.frame
            for event in await self.events()
            if isinstance(event, Deliver) and isinstance(event.frame, Command | CommandCancel)
        ]


@pytest.fixture
def heard(bus: InProcessBus) -> Iterator[Listener]:
    with bus.subscribe(
        frozenset({"commands"}), name="test", capacity=10_000, overflow=Overflow.DROP_OLDEST
    ) as subscription:
        yield Listener(subscription)


@pytest.fixture
def deliveries(bus: InProcessBus) -> Iterator[Listener]:
    """What agents would get."""
    with bus.subscribe(
        frozenset({"deliver"}), name="deliveries", capacity=10_000, overflow=Overflow.DROP_OLDEST
    ) as subscription:
        yield Listener(subscription)
