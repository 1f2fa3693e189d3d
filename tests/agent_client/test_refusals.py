"""What the agent does when a hub will not have it, or it will not have the hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_client.paths import Places
from protocol.codes import CloseCode
from protocol.enumerations import (
    RefusalAction,
)
from protocol.frames import (
    Drain,
    Event,
    Heartbeat,
    Refuse,
)
from tests.agent_client.alive import alive, until
from tests.agent_client.door import Door, listening
from tests.agent_client.fleet import Fleet, now_ms
from tests.agent_client.hub import Hub, Peer, running

pytestmark = pytest.mark.usefixtures("hurried")


@pytest.mark.parametrize(
    ("action", "is_slow"),
    [(RefusalAction.RETRY, False), (RefusalAction.NEVER, True), (RefusalAction.RE_ENROLL, True)],
)
async def test_a_refused_agent_does_what_it_is_told_and_never_ends(
    fleet: Fleet, places: Places, tmp_path: Path, action: RefusalAction, is_slow: bool
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.send(Refuse(code=4403, message="quarantined", action=action))
        await peer.connection.close(4403, "quarantined")

    hub = Hub(instead_of_welcome=refuse)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await hub.peer(1)
            if not is_slow:
                await hub.peer(2)
                return
            await until(lambda: agent.status().next_attempt_ms)
            status = agent.status()
            assert status.next_attempt_ms is not None
            assert status.next_attempt_ms - now_ms() > 600_000
            assert "quarantined" in status.advice
            assert status.spool.waiting["events"] == 2
            hub.instead_of_welcome = None
            agent.reload()
            peer = await hub.peer(2)
            event = await peer.first(Event, lambda event: event.kind != "started")
            assert (event.kind, event.data["code"]) == ("connection_refused", 4403)


@pytest.mark.parametrize("code", [CloseCode.IDENTITY_UNKNOWN, CloseCode.REVOKED])
async def test_a_close_code_that_needs_a_person_goes_to_the_slow_lane(
    fleet: Fleet, places: Places, tmp_path: Path, code: CloseCode
) -> None:
    async def close(peer: Peer) -> None:
        await peer.connection.close(code, "no")

    async with running(fleet, tmp_path, Hub(instead_of_welcome=close)) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000


async def test_a_hub_of_another_fleet_is_not_spoken_to(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(Fleet(), tmp_path, Hub(), client_root=fleet.root.pem) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "not this fleet's hub" in agent.status().advice
            assert hub.peers == []


async def test_a_certificate_that_the_hub_refuses_goes_to_the_slow_lane(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    with listening(Door(fleet), tmp_path / "server", only_clients_of=Fleet()) as door:
        fleet.enroll_by_hand(places, door.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "refused this agent's certificate (tlsv1 alert" in agent.status().advice
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000


async def test_a_hub_that_hangs_up_without_an_alert_is_tried_again(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub(), client_root=Fleet().root.pem) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "may not accept this agent's certificate" in agent.status().advice
            assert (agent.status().next_attempt_ms or 0) - now_ms() < 1000


async def test_an_expired_certificate_goes_to_the_slow_lane(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, days=-1)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert (agent.status().next_attempt_ms or 0) - now_ms() > 600_000
            assert "expired" in agent.status().advice


async def test_a_key_that_others_may_read_is_not_used(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        (places.certs / "client.key").chmod(0o644)
        async with alive(places) as agent:
            await until(lambda: agent.status().advice)
            assert "chmod 600" in agent.status().advice
            assert hub.peers == []


async def test_a_drained_agent_comes_back_in_its_slot(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places) as agent:
            peer = await hub.peer(1)
            await peer.first(Heartbeat)
            await peer.send(Drain(over_sec=600, slot_sec=300))
            await until(lambda: agent.status().next_attempt_ms)
            wait_ms = (agent.status().next_attempt_ms or 0) - now_ms()
            assert 290_000 < wait_ms <= 360_000
