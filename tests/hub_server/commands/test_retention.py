"""What is old goes, in slices, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select, update
from sqlmodel import col

from hub_server.audit.tables import AuditRow
from hub_server.clock import milliseconds
from hub_server.commands.retention import Retention
from hub_server.commands.store import CommandStore
from hub_server.commands.tables import CommandOutputRow, CommandRow, ScriptRow
from hub_server.errors import NotFound
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.enumerations import Action, OutputStream
from tests.hub_server.commands.builders import Hub, chunk, result

DAY_SECONDS = 86400.0


async def counts(hub: Hub) -> list[int]:
    """Return how many commands, pieces of output, scripts and audit entries there are."""
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        tables = (CommandRow, CommandOutputRow, ScriptRow, AuditRow)
        return [await connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def retention_of(hub: Hub) -> Retention:
    return Retention(database=hub.database, clock=hub.clock, store=CommandStore(), commands_days=90, output_days=30)


def in_small_slices(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Retention:
    """Return one that takes so few at a time that what is old comes in several slices."""
    monkeypatch.setattr("hub_server.commands.retention.SLICE_COMMANDS", 2)
    monkeypatch.setattr("hub_server.commands.retention.PAUSE_SECONDS", 0)
    return retention_of(hub)


async def run_one(hub: Hub, agent_id: str, text: str) -> str:
    view = await hub.create(agent_id, command_type=Action.SCRIPT, command_data={"script": text})
    await hub.send(view.id)
    await hub.chunk(agent_id, chunk(view.id, 0, "output"))
    await hub.result(agent_id, result(view.id))
    return view.id


async def test_output_goes_first_then_the_command_then_its_script(
    hub: Hub, agent_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = in_small_slices(hub, monkeypatch)
    old = [await run_one(hub, agent_id, text) for text in ("a", "b", "c", "shared", "shared")]
    open_one = await hub.create(agent_id, expires_in_sec=7 * 86400)
    hub.clock.advance(29 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [6, 5, 4, 6]
    young = await run_one(hub, agent_id, "shared")
    hub.clock.advance(2 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [7, 1, 4, 7]
    view = await hub.get(old[0])
    assert (view.kept_bytes[OutputStream.STDOUT], view.output_bytes[OutputStream.STDOUT]) == (0, 6)
    page = await hub.output(old[0])
    assert (page.data, page.complete) == ("", True)
    assert (await hub.output(young)).data == "output"
    hub.clock.advance(60 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [2, 0, 1, 7]
    with pytest.raises(NotFound):
        await hub.get(old[0])
    assert (await hub.get(young)).command_data == {"script": "shared"}
    assert (await hub.get(open_one.id)).id == open_one.id


async def test_a_script_stays_as_long_as_a_command_that_has_it(hub: Hub, agent_id: str) -> None:
    retention = retention_of(hub)
    slow = await hub.create(
        agent_id, command_type=Action.SCRIPT, command_data={"script": "slow"}, expires_in_sec=7 * 86400
    )
    hub.clock.advance(6 * DAY_SECONDS)
    await hub.send(slow.id)
    await hub.result(agent_id, result(slow.id))
    hub.clock.advance(89 * DAY_SECONDS)
    await retention.apply()
    assert (await hub.get(slow.id)).command_data == {"script": "slow"}
    hub.clock.advance(2 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [0, 0, 0, 1]


async def test_what_an_agent_reports_late_is_kept_as_long_as_any_other(hub: Hub, agent_id: str) -> None:
    """Its machine was away for longer than commands are kept: its time says how old the end is, not when it came."""
    retention = retention_of(hub)
    view = await hub.create(agent_id)
    await hub.send(view.id)
    ended_ms = milliseconds(hub.clock.now())
    hub.clock.advance(100 * DAY_SECONDS)
    await hub.chunk(agent_id, chunk(view.id, 0, "output"))
    await hub.result(agent_id, result(view.id, finished_at=ended_ms))
    await retention.apply()
    assert (await hub.output(view.id)).data == "output"
    hub.clock.advance(31 * DAY_SECONDS)
    await retention.apply()
    assert (await hub.output(view.id)).data == ""
    hub.clock.advance(60 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [0, 0, 0, 1]


async def test_what_an_earlier_version_stored_beside_this_one_is_kept_as_long(hub: Hub, agent_id: str) -> None:
    """It runs on for a while after the database was brought up to date, and does not say when it changes a command."""
    retention = retention_of(hub)
    await run_one(hub, agent_id, "a")
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(update(CommandRow).values(changed_at=datetime(1970, 1, 1, tzinfo=UTC)))
    hub.clock.advance(29 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [1, 1, 1, 1]
    hub.clock.advance(62 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [0, 0, 0, 1]


async def test_what_was_stored_while_the_clock_was_ahead_is_kept_as_long_as_any_other(
    hub: Hub, agent_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    retention = in_small_slices(hub, monkeypatch)
    before = await run_one(hub, agent_id, "before")
    hub.clock.jump(1000 * DAY_SECONDS)
    ahead = [await run_one(hub, agent_id, text) for text in ("a", "b", "c")]
    await retention.apply()
    with pytest.raises(NotFound):
        await hub.get(before)
    hub.clock.advance(40 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [3, 0, 3, 4]
    hub.clock.jump(-1040 * DAY_SECONDS)
    put_right = await run_one(hub, agent_id, "put right")
    await retention.apply()
    hub.clock.advance(31 * DAY_SECONDS)
    await retention.apply()
    assert (await hub.output(put_right)).data == ""
    assert (await hub.get(ahead[0])).id == ahead[0]
    hub.clock.advance(60 * DAY_SECONDS)
    await retention.apply()
    assert await counts(hub) == [0, 0, 0, 5]


async def test_a_hub_whose_own_clock_is_behind_at_its_start_takes_nothing_for_later(hub: Hub, agent_id: str) -> None:
    view = await run_one(hub, agent_id, "a")
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        changed_at = await connection.scalar(select(col(CommandRow.changed_at)))
    hub.clock.jump(-1000 * DAY_SECONDS)
    await retention_of(hub).apply()
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        assert await connection.scalar(select(col(CommandRow.changed_at))) == changed_at
    assert (await hub.output(view)).data == "output"
