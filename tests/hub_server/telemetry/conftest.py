from collections.abc import Iterator

import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow, Subscription
from hub_server.storage.engine import Database
from tests.clocks import FakeClock
from tests.hub_server.telemetry.builders import Hub


@pytest.fixture
def hub(database: Database, bus: InProcessBus, clock: FakeClock) -> Hub:
    return Hub(database, bus, clock)


@pytest.fixture
def deliveries(bus: InProcessBus) -> Iterator[Subscription]:
    """What agents would get."""
    with bus.subscribe(
        frozenset({"deliver"}), name="test", capacity=10_000, overflow=Overflow.DROP_OLDEST
    ) as subscription:
        yield subscription
