"""The audit as people search it: their own organisation's, by every condition that is given."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import update
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.audit.record import record
from hub_server.audit.service import AuditService
from hub_server.audit.store import AuditStore
from hub_server.audit.tables import AuditRow
from hub_server.clock import milliseconds
from hub_server.errors import Forbidden
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import Role
from protocol.oversight import AuditSearch
from tests.clocks import FakeClock
from tests.hub_server.audit.builders import Signer, add_entries_at_once

DEEDS: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("o1", "user:ada", "users:create", "user:7", {"username": "Grace"}),
    ("o1", "user:ada", "users:lock", "user:7", {"reason": "100% sure_ly"}),
    ("o1", "hub", "agents:revoke", "agent:9", {}),
    ("o2", "user:eve", "users:create", "user:8", {"username": "grace"}),
    (EVERY_ORGANISATION, "hub", "authorities:create", "authority:1", {}),
)


@pytest.fixture
async def audit(database: Database, clock: FakeClock) -> AuditService:
    async with database.write(EVERY_ORGANISATION) as connection:
        for organisation_id, actor, action, target, detail in DEEDS:
            clock.advance(1)
            await record(
                connection,
                organisation_id=organisation_id,
                at=clock.now(),
                actor=actor,
                action=action,
                target=target,
                detail=detail,
            )
    return AuditService(database=database, clock=clock, signer=Signer())


def principal(role: Role = Role.AUDITOR, organisation_id: str = "o1") -> Principal:
    return Principal(user_id="u", username="ada", organisation_id=organisation_id, role=role)


@pytest.mark.parametrize(
    ("conditions", "targets"),
    [
        ({}, ["agent:9", "user:7", "user:7"]),
        ({"text": "GRACE"}, ["user:7"]),
        ({"text": "0% s"}, ["user:7"]),
        ({"text": "0_ s"}, []),
        ({"text": "sure_"}, ["user:7"]),
        ({"text": "sure%ly"}, []),
        ({"action": "users:*"}, ["user:7", "user:7"]),
        ({"action": "users:"}, []),
        ({"action": "users:lock"}, ["user:7"]),
        ({"action": "%"}, []),
        ({"actor": "hub"}, ["agent:9"]),
        ({"target": "user:7", "text": "create"}, ["user:7"]),
        ({"target": "user:8"}, []),
        ({"limit": 1, "offset": 1}, ["user:7"]),
        ({"from_ms": 2**53}, []),
    ],
)
async def test_every_given_condition_holds(audit: AuditService, conditions: dict[str, Any], targets: list[str]) -> None:
    reply = await audit.search(principal(), AuditSearch(**conditions))
    assert [entry.target for entry in reply.entries] == targets


async def test_times_include_their_beginning_and_not_their_end(audit: AuditService, clock: FakeClock) -> None:
    third = milliseconds(clock.now()) - 2000
    reply = await audit.search(principal(), AuditSearch(from_ms=third - 1000, to_ms=third))
    assert [(entry.action, entry.detail) for entry in reply.entries] == [("users:lock", {"reason": "100% sure_ly"})]


async def test_the_deeds_of_the_hub_are_for_its_administrators(audit: AuditService) -> None:
    reply = await audit.search(principal(Role.HUB_ADMIN), AuditSearch())
    assert [entry.action for entry in reply.entries][:2] == ["authorities:create", "agents:revoke"]
    assert (reply.total, (await audit.search(principal(), AuditSearch())).total) == (4, 3)
    assert (await audit.search(principal(Role.HUB_ADMIN), AuditSearch(target="user:8"))).total == 0
    with pytest.raises(Forbidden):
        await audit.search(principal(Role.TECHNICIAN), AuditSearch())


async def test_an_entry_that_somebody_spoilt_is_still_shown(audit: AuditService, database: Database) -> None:
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(update(AuditRow).where(col(AuditRow.number) == 1).values(detail="{"))
    reply = await audit.search(principal(), AuditSearch(target="user:7", action="users:create"))
    assert [entry.detail for entry in reply.entries] == [{"unreadable": "{"}]


async def test_an_export_has_every_entry_once(database: Database, clock: FakeClock) -> None:
    await add_entries_at_once(database, clock, 2500)
    store, numbers = AuditStore(), list[int]()
    async with database.read(EVERY_ORGANISATION) as connection:
        async for entry, entry_hash in store.all(connection, None, AuditSearch()):
            assert json.loads(entry.detail)["note"] == "ok"
            assert len(entry_hash) == 64
            numbers.append(msgspec.structs.asdict(entry)["number"])
    assert numbers == list(range(2500, 0, -1))
