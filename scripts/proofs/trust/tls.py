"""Whose certificate opens a session: the agents' own, and no forged one, whoever made it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from protocol.frames import HeartbeatAck
from scripts.proofs.report import Report
from scripts.proofs.trust.own_hub import own_hub
from tests.integration.forgery import ACCEPTED, Forger, met
from tests.integration.hub import RunningHub
from tests.integration.machine import Identity, enroll, greeted, heartbeat
from tests.integration.person import Person, known_to, watching
from tests.integration.renewals import renewed

CASES_MIN: Final = 24


async def show(report: Report) -> None:
    await report.show("TLS: no forged, foreign, wrong or withdrawn certificate is accepted, the true one is", _shown)


async def _shown() -> str:
    async with own_hub() as (hub, folder), watching(hub, await hub.sign_in()) as person:
        identity = await enroll(hub, folder, "true")
        await known_to(person, identity.agent_id)
        assert await met(hub, identity.tls()) == ACCEPTED
        before = await hub.rows()
        cases = Forger(hub, identity, folder).cases()
        found = {what: (await met(hub, make()), expected) for what, (make, expected) in cases.items()}
        changed = await hub.changed_since(before)
        found["revoked"] = await _revoked(hub, person, folder), "4403"
        found["in quarantine"] = await _quarantined(hub, person, folder), "4403"
        found["superseded"] = await _superseded(hub, folder), "4401"
        assert await met(hub, identity.tls()) == ACCEPTED
    wrong = {what: pair for what, pair in found.items() if pair[0] != pair[1]}
    assert not wrong, wrong
    assert not changed, changed
    assert len(found) >= CASES_MIN
    kinds = Counter(outcome for outcome, _ in found.values())
    return f"{len(found)} cases, {kinds.get(ACCEPTED, 0)} accepted ({', '.join(f'{k} {n}' for k, n in kinds.items())})"


async def _revoked(hub: RunningHub, person: Person, folder: Path) -> str:
    lost = await _known(hub, person, folder)
    await person.do("agents:revoke", agentId=lost.agent_id, reason="lost")
    return await met(hub, lost.tls())


async def _quarantined(hub: RunningHub, person: Person, folder: Path) -> str:
    odd = await _known(hub, person, folder)
    await person.do("agents:quarantine", agentId=odd.agent_id, reason="odd")
    return await met(hub, odd.tls())


async def _superseded(hub: RunningHub, folder: Path) -> str:
    old = await enroll(hub, folder, "renewed")
    async with greeted(hub, old) as agent:
        new = await renewed(agent, old)
    async with greeted(hub, new) as agent:
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
    return await met(hub, old.tls())


async def _known(hub: RunningHub, person: Person, folder: Path) -> Identity:
    identity = await enroll(hub, folder, "withdrawn")
    await known_to(person, identity.agent_id)
    return identity
