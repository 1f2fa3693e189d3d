from collections.abc import Iterator

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import Hub
from tests.hub_server.telemetry.memory_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def hub(store: MemoryStore, bus: InProcessBus, clock: FakeClock) -> Hub:
    return Hub(store, bus, clock)


@pytest.fixture
def deliveries(bus: InProcessBus) -> Iterator[Subscription]:
    """What agents would get."""
    with bus.subscribe(
        frozenset({"deliver"}), name="test", capacity=10_000, overflow=Overflow.DROP_OLDEST
    ) as subscription:
        yield subscription
