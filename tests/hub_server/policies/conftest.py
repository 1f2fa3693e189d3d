import pytest

from hub_server.bus.in_process import InProcessBus
from hub_server.storage.engine import Database
from tests.clocks import FakeClock
from tests.hub_server.policies.builders import World


@pytest.fixture
def world(database: Database, bus: InProcessBus, clock: FakeClock, organisation_id: str) -> World:
    return World(database, bus, clock, organisation_id)
