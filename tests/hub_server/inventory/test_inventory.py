"""What machines are made of: kept section by section, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.errors import NotFound
from hub_server.fleet.tables import AgentRow
from hub_server.inventory.service import ASSEMBLIES_MAX, ASSEMBLIES_MAX_BYTES, InventoryService
from hub_server.inventory.store import InventoryStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.frames import Error, Inventory, InventoryAck
from protocol.inventory import ITEMS_MAX
from protocol.telemetry import InventoryGet
from tests.clocks import FakeClock
from tests.hub_server.fleet.test_fleet import Fleet


@pytest.fixture
def fleet(database: Database, bus: InProcessBus, clock: FakeClock) -> Fleet:
    return Fleet(database, bus, clock)


@pytest.fixture
async def agent_id(fleet: Fleet, organisation_id: str) -> str:
    return await fleet.with_agent(organisation_id)


@pytest.fixture
def inventory(fleet: Fleet, clock: FakeClock) -> InventoryService:
    return InventoryService(database=fleet.database, clock=clock, store=InventoryStore(), machines=fleet.service)


def packages(*names: str, part: int = 1, parts: int = 1, digest: str = "h1") -> Inventory:
    items = [{"name": name, "version": "1.0", "source": "dpkg"} for name in names]
    return Inventory(hash=digest, body={"items": items}, section="packages", part=part, parts=parts)


def viewer_of(organisation_id: str) -> Principal:
    return Principal(user_id="u", username="ada", organisation_id=organisation_id, role=Role.VIEWER)


async def body_of(inventory: InventoryService, organisation_id: str, agent_id: str, section: str) -> dict[str, Any]:
    reply = await inventory.get(viewer_of(organisation_id), InventoryGet(agent_id=agent_id))
    (found,) = (each.body for each in reply.sections if each.section == section)
    return found


async def test_a_section_is_stored_with_the_fields_it_has(
    inventory: InventoryService, organisation_id: str, agent_id: str
) -> None:
    frame = Inventory(hash="x1", section="hardware", body={"cpuModel": "EPYC", "unheardOf": 1})
    assert await inventory.receive(organisation_id, agent_id, frame) == InventoryAck(section="hardware", hash="x1")
    body = await body_of(inventory, organisation_id, agent_id, "hardware")
    assert (body["cpuModel"], "unheardOf" in body) == ("EPYC", False)
    assert inventory.hashes(agent_id) == {"hardware": "x1"}


async def test_another_hash_replaces_the_section_and_a_restart_knows_it(
    inventory: InventoryService, fleet: Fleet, clock: FakeClock, organisation_id: str, agent_id: str
) -> None:
    await inventory.receive(organisation_id, agent_id, packages("apt"))
    await inventory.receive(organisation_id, agent_id, packages("bash", digest="h2"))
    again = InventoryService(database=fleet.database, clock=clock, store=InventoryStore(), machines=fleet.service)
    await again.load()
    assert again.hashes(agent_id) == {"packages": "h2"}
    body = await body_of(again, organisation_id, agent_id, "packages")
    assert [item["name"] for item in body["items"]] == ["bash"]


async def test_a_list_in_parts_counts_once_it_is_whole(
    inventory: InventoryService, organisation_id: str, agent_id: str
) -> None:
    assert await inventory.receive(organisation_id, agent_id, packages("apt", parts=2)) is None
    assert inventory.hashes(agent_id) == {}
    assert await inventory.receive(organisation_id, agent_id, packages("bash", part=2, parts=2)) is not None
    assert await inventory.receive(organisation_id, agent_id, packages("c", part=2, parts=2, digest="h2")) is None
    assert await inventory.receive(organisation_id, agent_id, packages("d", part=1, parts=2, digest="h3")) is None
    assert await inventory.receive(organisation_id, agent_id, packages("e", part=2, parts=2, digest="h2")) is None
    body = await body_of(inventory, organisation_id, agent_id, "packages")
    assert [item["name"] for item in body["items"]] == ["apt", "bash"]


async def test_sections_in_parts_are_bounded(inventory: InventoryService, organisation_id: str) -> None:
    for number in range(ASSEMBLIES_MAX + 1):
        assert await inventory.receive(organisation_id, f"a{number}", packages("apt", parts=2)) is None
    assert await inventory.receive(organisation_id, "a0", packages("bash", part=2, parts=2)) is None


async def test_what_parts_of_sections_take_is_bounded(
    inventory: InventoryService, organisation_id: str, agent_id: str
) -> None:
    """Only what is held counts: the first agent's parts are given up for those of the last ones."""
    long = "x" * 4096
    many = [f"{number}" for number in range(500)]
    for number in range(20):
        for part in (1, 2):
            frame = Inventory(
                hash="h",
                body={"items": [{"name": n, "version": long} for n in many]},
                section="packages",
                part=part,
                parts=3,
            )
            assert await inventory.receive(organisation_id, f"a{number}", frame) is None
    assert inventory.held_bytes <= ASSEMBLIES_MAX_BYTES
    assert await inventory.receive(organisation_id, "a0", packages("bash", part=3, parts=3, digest="h")) is None
    assert await inventory.receive(organisation_id, agent_id, packages("bash", part=1, parts=3)) is None


@pytest.mark.parametrize(
    ("section", "body"),
    [
        ("hardware", {"drives": [{"name": "sda"}]}),
        ("packages", {"items": [{"name": "n"}] * (ITEMS_MAX // 2 + 1)}),
        ("services", {"items": [{"name": "n", "state": "x" * 4096}] * 1100}),
    ],
)
async def test_parts_that_make_no_section_are_refused_as_they_come(
    inventory: InventoryService, organisation_id: str, agent_id: str, section: str, body: dict[str, Any]
) -> None:
    frames = [Inventory(hash="h", body=body, section=section, part=part, parts=3) for part in (1, 2)]
    assert await inventory.receive(organisation_id, agent_id, frames[0]) is None
    assert isinstance(await inventory.receive(organisation_id, agent_id, frames[1]), Error)
    assert inventory.held_bytes == 0


@pytest.mark.parametrize(
    "frame",
    [
        Inventory(hash="h", body={"items": []}, section="nonsense"),
        Inventory(hash="h", body={"items": [{"version": "1"}]}, section="packages"),
        Inventory(hash="h", body={"items": [{"name": "n"}] * (ITEMS_MAX + 1)}, section="services"),
    ],
)
async def test_what_is_no_inventory_is_refused(
    inventory: InventoryService, organisation_id: str, agent_id: str, frame: Inventory
) -> None:
    answer = await inventory.receive(organisation_id, agent_id, frame)
    assert isinstance(answer, Error)
    assert answer.code == "invalid_inventory"
    assert inventory.hashes(agent_id) == {}


async def test_another_organisation_sees_no_inventory(
    inventory: InventoryService, organisation_id: str, agent_id: str
) -> None:
    await inventory.receive(organisation_id, agent_id, packages("apt"))
    with pytest.raises(NotFound):
        await inventory.get(viewer_of("another"), InventoryGet(agent_id=agent_id))


async def test_the_inventory_of_a_deleted_agent_goes_with_it_and_comes_back_never(
    inventory: InventoryService, fleet: Fleet, organisation_id: str, agent_id: str
) -> None:
    await inventory.receive(organisation_id, agent_id, packages("apt"))
    async with fleet.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(AgentRow).where(col(AgentRow.id) == agent_id))
    fleet.service.forget(organisation_id, agent_id)
    inventory.forget(agent_id)
    assert await inventory.receive(organisation_id, agent_id, packages("apt")) is None
    assert inventory.hashes(agent_id) == {}
