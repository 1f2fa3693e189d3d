"""Open commands that nobody here was told of are found in slices; those that stand still are not read again."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import Connection, delete
from sqlmodel import col

from hub_server.commands.model import OpenCommand
from hub_server.commands.open_store import Changed, OpenStore
from hub_server.commands.tables import CommandRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.commands import CommandsCancel
from protocol.enumerations import CommandStatus
from tests.hub_server.commands.builders import Hub, result
from tests.hub_server.commands.conftest import Listener

HOUR = 3600.0


class Asked(OpenStore):
    """Notes how many rows were read."""

    rows = 0

    def after(self, connection: Connection, place: tuple[str, str], limit: int) -> list[OpenCommand]:
        found = super().after(connection, place, limit)
        self.rows += len(found)
        return found

    def changed_after(self, connection: Connection, place: tuple[object, str], limit: int) -> Changed:
        found = super().changed_after(connection, place, limit)  # type: ignore[arg-type]
        self.rows += len(found.open) + len(found.ended)
        return found


@pytest.fixture
def slices_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub_server.commands.census.SLICE_COMMANDS", 2)


@pytest.mark.usefixtures("slices_of_two")
async def test_commands_that_stand_still_are_read_a_slice_at_a_time(
    hub: Hub, agent_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(7):
        await hub.create(agent_id, expires_in_sec=86400)
    asked = Asked()
    monkeypatch.setattr(hub.service.ledger._census, "_store", asked)
    await hub.service.ledger.sweep()
    assert asked.rows == 9
    hub.clock.advance(HOUR)
    await hub.service.ledger.sweep()
    asked.rows = 0
    hub.clock.advance(HOUR)
    await hub.service.ledger.sweep()
    assert asked.rows == 2


@pytest.mark.usefixtures("slices_of_two")
async def test_what_another_hub_changed_is_found_at_once_however_much_is_open(hub: Hub, agent_id: str) -> None:
    views = [await hub.create(agent_id, expires_in_sec=86400) for _ in range(7)]
    await hub.send(views[3].id)
    other = await hub.restarted()
    for each in (hub, other):
        each.clock.advance(HOUR)
        await each.service.ledger.sweep()
    created = await other.create(agent_id)
    await other.service.cancel(hub.principal, CommandsCancel(command_id=views[3].id))
    await hub.service.ledger.sweep()
    assert hub.service.ledger.opened.get(created.id) is not None
    cancelled = hub.service.ledger.opened.get(views[3].id)
    assert cancelled is not None
    assert cancelled.cancel_requested


@pytest.mark.usefixtures("slices_of_two")
async def test_what_a_hub_with_another_clock_did_is_found_in_its_turn(hub: Hub, agent_id: str, heard: Listener) -> None:
    views = [await hub.create(agent_id, expires_in_sec=7 * 86400) for _ in range(7)]
    await hub.send(views[0].id)
    hub.clock.advance(HOUR)
    await hub.service.ledger.sweep()
    hub.clock.jump(-HOUR)
    other = await hub.restarted()
    await other.result(agent_id, result(views[0].id))
    late = await other.create(agent_id, expires_in_sec=7 * 86400)
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(CommandRow).where(col(CommandRow.id) == views[1].id))
    hub.clock.jump(HOUR)
    await heard.events()
    for _ in range(6):
        await hub.service.ledger.sweep()
    opened = hub.service.ledger.opened
    assert opened.ids() == {late.id, *(view.id for view in views[2:])}
    [end] = await heard.ends()
    assert (end.command_id, end.status) == (views[0].id, CommandStatus.COMPLETED)


async def test_one_turn_tends_a_few_commands_and_leaves_others_theirs(
    hub: Hub, agent_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.commands.ledger.SWEPT_AT_ONCE", 2)
    views = [await hub.create(agent_id, expires_in_sec=60) for _ in range(5)]
    hub.clock.advance(61)
    await hub.service.ledger.sweep()
    assert {(await hub.get(view.id)).status for view in views} == {CommandStatus.FAILED}


async def test_what_ended_while_the_database_was_asked_is_not_opened_again(
    hub: Hub, agent_id: str, heard: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    census = hub.service.ledger._census
    changed = census._changed

    async def slowly(since: datetime) -> tuple[list[OpenCommand], set[str]]:
        view = await hub.create(agent_id)
        found = await changed(since)
        await hub.send(view.id)
        await hub.result(agent_id, result(view.id))
        return found

    monkeypatch.setattr(census, "_changed", slowly)
    await hub.service.ledger.sweep()
    assert not hub.service.ledger.opened.ids()
    assert len(await heard.ends()) == 1
