"""What a machine is made of, from its frames to people."""

from __future__ import annotations

from protocol.frames import Inventory, InventoryAck
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, connected
from tests.integration.person import Person


async def test_a_section_that_a_machine_sent_is_shown_and_not_asked_for_again(
    hub: RunningHub, person: Person, identity: Identity
) -> None:
    async with connected(hub, identity.tls()) as agent:
        assert (await agent.greet()).inventory == {}
        await agent.send(Inventory(hash="x1", section="hardware", body={"cpuModel": "EPYC"}))
        await agent.take(InventoryAck)
    (section,) = (await person.do("inventory:get", agentId=identity.agent_id))["sections"]
    assert (section["section"], section["body"]["cpuModel"]) == ("hardware", "EPYC")
    async with connected(hub, identity.tls()) as agent:
        assert (await agent.greet()).inventory == {"hardware": "x1"}
