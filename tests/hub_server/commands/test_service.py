"""Commands as people create, read and cancel them, on both databases."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import delete, func, select, update
from sqlmodel import col

from hub_server.access.tables import OrganisationRow
from hub_server.audit.tables import AuditRow
from hub_server.clock import milliseconds
from hub_server.commands.tables import CommandRow
from hub_server.errors import Conflict, Forbidden, InvalidRequest, NotFound, QuotaReached
from hub_server.events import CommandStatusChanged
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.commands import CommandsCancel, CommandsCreate, CommandsGet, CommandsList, CommandsOutput
from protocol.enumerations import Action, CommandReason, CommandStatus, OutputStream, Role, TextEncoding
from protocol.envelope import JobEnvelope
from protocol.frames import Command, CommandCancel
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES
from tests.hub_server.commands.builders import Hub, bytes_in, chunk, result, started, technician_of
from tests.hub_server.commands.conftest import Listener


async def stored_commands(hub: Hub) -> int:
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        return await connection.scalar(select(func.count()).select_from(CommandRow)) or 0


async def audit_actions(hub: Hub) -> list[tuple[str, str, dict[str, Any]]]:
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        rows = await connection.execute(select(AuditRow).order_by(col(AuditRow.number)))
        return [(row.actor, row.action, msgspec.json.decode(row.detail)) for row in rows]


async def test_a_command_is_signed_stored_and_audited(hub: Hub, agent_id: str, deliveries: Listener) -> None:
    data = {"argv": ["env"], "environment": {"A": "1"}, "workingDirectory": "/tmp"}
    view = await hub.create(agent_id, command_data=data, timeout_sec=5)
    assert (view.status, view.command_data, view.created_by) == (CommandStatus.PENDING, data, "user:theo")
    assert await hub.get(view.id) == view
    await hub.send(view.id)
    [frame] = await deliveries.frames()
    assert isinstance(frame, Command)
    envelope = msgspec.json.decode(base64.b64decode(frame.payload), type=JobEnvelope)
    assert envelope == JobEnvelope(
        job_id=view.id,
        organisation_id=hub.organisation_id,
        agent_id=agent_id,
        action=Action.EXEC,
        argv=["env"],
        environment={"A": "1"},
        working_directory="/tmp",
        issued_at=milliseconds(hub.clock.now()),
        expires_at=milliseconds(view.expires_at),
        timeout_sec=5,
        requested_by=view.created_by,
    )
    assert (view.expires_at - view.created_at).total_seconds() == 15 * 60
    assert [signature.key_id for signature in frame.signatures] == ["key-1"]
    assert await audit_actions(hub) == [
        ("user:theo", "commands:create", {"agentId": agent_id, "commandType": "exec", "argv": ["env"]})
    ]


WRONG_DATA: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({}, "$.commandData"),
    ({"argv": []}, "$.commandData.argv"),
    ({"argv": [1]}, "$.commandData.argv[0]"),
    ({"argv": [""]}, "$.commandData.argv[0]"),
    ({"argv": "id"}, "$.commandData.argv"),
    ({"argv": ["id"], "shell": True}, "$.commandData"),
    ({"argv": ["id"], "environment": {"A": 1}}, "$.commandData.environment[...]"),
    ({"argv": ["id"], "environment": {"A=B": "1"}}, "$.commandData.environment"),
    ({"argv": ["nul\0"]}, "$.commandData"),
    ({"argv": ["\ud800"]}, "$.commandData"),
    ({"argv": ["x" * 30_000] * 10}, "$.commandData"),
)


async def test_a_wrong_field_is_named_and_nothing_is_stored(hub: Hub, agent_id: str) -> None:
    for data, path in WRONG_DATA:
        with pytest.raises(InvalidRequest) as refusal:
            await hub.create(agent_id, command_data=data)
        assert refusal.value.path == path, data
    assert await stored_commands(hub) == 0


async def test_a_command_to_an_unknown_agent_changes_nothing(hub: Hub, agent_id: str) -> None:
    for principal, target in ((hub.principal, "nobody"), (technician_of("another"), agent_id)):
        with pytest.raises(NotFound) as refusal:
            await hub.service.create(principal, CommandsCreate(agent_id=target, command_data={"argv": ["id"]}))
        assert refusal.value.path == "$.agentId"
    assert await stored_commands(hub) == 0
    assert await audit_actions(hub) == []


async def test_a_command_to_an_agent_that_was_deleted_a_moment_ago_is_refused(hub: Hub, agent_id: str) -> None:
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(AgentRow).where(col(AgentRow.id) == agent_id))
    with pytest.raises(NotFound):
        await hub.create(agent_id)
    assert await audit_actions(hub) == []
    assert hub.service.pending_total(hub.organisation_id) == 0


async def test_only_those_who_may_run_commands_do(hub: Hub, agent_id: str) -> None:
    view = await hub.create(agent_id)
    for role in (Role.VIEWER, Role.OPERATOR, Role.HUB_ADMIN):
        principal = technician_of(hub.organisation_id, role)
        with pytest.raises(Forbidden):
            await hub.service.create(principal, CommandsCreate(agent_id=agent_id, command_data={"argv": ["id"]}))
        with pytest.raises(Forbidden):
            await hub.service.cancel(principal, CommandsCancel(command_id=view.id))
    with pytest.raises(Forbidden):
        await hub.service.get(technician_of(hub.organisation_id, Role.VIEWER), CommandsGet(command_id=view.id))
    with pytest.raises(NotFound):
        await hub.service.get(technician_of("another"), CommandsGet(command_id=view.id))
    assert await stored_commands(hub) == 1


async def test_an_idempotency_key_gives_the_same_command_again(hub: Hub, agent_id: str, heard: Listener) -> None:
    first = await hub.create(agent_id, idempotency_key="k1")
    hub.clock.advance(60)
    assert await hub.create(agent_id, idempotency_key="k1") == first
    assert await (await hub.restarted()).create(agent_id, idempotency_key="k1") == first
    assert (await hub.create(agent_id, idempotency_key="k2")).id != first.id
    assert len(await heard.events()) == 2
    assert len(await audit_actions(hub)) == 2


async def test_an_idempotency_key_gives_the_command_again_when_it_would_not_be_given_any_more(
    hub: Hub, agent_id: str
) -> None:
    """The answer was lost; the machine may have run it."""
    first = await hub.create(agent_id, idempotency_key="k1")
    hub.policies.refusal = "nothing may be done on this machine"
    assert await hub.create(agent_id, idempotency_key="k1") == first
    others: list[dict[str, Any]] = [
        {},
        {"idempotency_key": "k2"},
        {"idempotency_key": "k1", "command_data": {"argv": ["id"]}},
    ]
    for fields in others:
        with pytest.raises(Forbidden, match="nothing may be done"):
            await hub.create(agent_id, **fields)
    hub.agents.revoked.add((hub.organisation_id, agent_id))
    assert await hub.create(agent_id, idempotency_key="k1") == first
    request = CommandsCreate(agent_id=agent_id, command_data={"argv": ["uname", "-a"]}, idempotency_key="k1")
    with pytest.raises(Forbidden):
        await hub.service.create(technician_of(hub.organisation_id, Role.VIEWER), request)
    with pytest.raises(NotFound):
        await hub.service.create(technician_of("another"), request)
    assert await stored_commands(hub) == 1


async def test_an_idempotency_key_is_for_one_content(hub: Hub, agent_id: str) -> None:
    await hub.create(agent_id, idempotency_key="k1", timeout_sec=5)
    others: list[dict[str, Any]] = [{"timeout_sec": 6}, {"timeout_sec": 5, "command_data": {"argv": ["reboot"]}}]
    for fields in others:
        with pytest.raises(Conflict) as refusal:
            await hub.create(agent_id, idempotency_key="k1", **fields)
        assert refusal.value.path == "$.idempotencyKey"
    assert await stored_commands(hub) == 1


async def test_requests_with_one_key_at_the_same_time_make_one_command(hub: Hub, agent_id: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(hub.create(agent_id, idempotency_key="k1"), name="create") for _ in range(10)]
    assert len({task.result().id for task in asked}) == 1
    assert await stored_commands(hub) == 1
    assert hub.service.counts([agent_id]) == {agent_id: 1}


async def test_a_waiting_command_is_cancelled_at_once(hub: Hub, agent_id: str, heard: Listener) -> None:
    view = await hub.create(agent_id)
    reply = await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    assert (reply.command.status, reply.command.reason) == (
        CommandStatus.CANCELLED,
        CommandReason.CANCELLED_BY_PERSON,
    )
    assert hub.service.pending_total(hub.organisation_id) == 0
    again = await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    assert again == reply
    assert await heard.statuses() == [CommandStatus.CANCELLED]
    assert [action for _, action, _ in await audit_actions(hub)] == ["commands:create", "commands:cancel"]


async def test_a_running_command_is_cancelled_by_its_agent(
    hub: Hub, agent_id: str, deliveries: Listener, heard: Listener
) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    await hub.started(agent_id, started(view.id))
    await deliveries.frames()
    await heard.events()
    reply = await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    assert reply.command.status is CommandStatus.EXECUTING
    assert await deliveries.frames() == [CommandCancel(command_id=view.id)]
    await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    assert await told(heard) == [(CommandStatus.EXECUTING, True)]
    with pytest.raises(NotFound):
        await hub.service.cancel(hub.principal, CommandsCancel(command_id="other"))


async def test_who_is_cancelled_before_it_began_is_told_as_cancelled_when_it_begins(
    hub: Hub, agent_id: str, heard: Listener
) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    await heard.events()
    await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    hub.service.started(hub.organisation_id, agent_id, started(view.id))
    assert await told(heard) == [(CommandStatus.SENT, True), (CommandStatus.EXECUTING, True)]


async def told(heard: Listener) -> list[tuple[CommandStatus, bool]]:
    """Return what was said of the way of commands, and whether their end was asked for."""
    events = [event for event in await heard.events() if isinstance(event, CommandStatusChanged)]
    return [(event.status, event.cancel_requested) for event in events]


async def test_lists_are_newest_first_filtered_and_paged(hub: Hub, agent_id: str) -> None:
    second = await hub.add_agent()
    views = []
    for target in (agent_id, second, agent_id):
        views.append(await hub.create(target))
        hub.clock.advance(1)
    await hub.service.cancel(hub.principal, CommandsCancel(command_id=views[0].id))
    reply = await hub.service.list(hub.principal, CommandsList())
    assert [view.id for view in reply.commands] == [view.id for view in reversed(views)]
    of_agent = await hub.service.list(hub.principal, CommandsList(agent_id=agent_id, status=CommandStatus.PENDING))
    assert [view.id for view in of_agent.commands] == [views[2].id]
    since = int(views[1].created_at.timestamp() * 1000)
    newer = await hub.service.list(hub.principal, CommandsList(created_by=views[0].created_by, from_ms=since))
    assert [view.id for view in newer.commands] == [views[2].id, views[1].id]
    assert (await hub.service.list(hub.principal, CommandsList(created_by="user:nobody"))).total == 0
    page = await hub.service.list(hub.principal, CommandsList(limit=1, offset=1))
    assert ([view.id for view in page.commands], page.total) == ([views[1].id], 3)
    assert (await hub.service.list(technician_of("another"), CommandsList())).total == 0
    for service in (hub.service, (await hub.restarted()).service):
        assert service.pending_total(hub.organisation_id) == 2
        assert service.counts([agent_id, second, "nobody"]) == {agent_id: 2, second: 1, "nobody": 0}


async def test_output_is_read_in_pages_from_any_offset(hub: Hub, agent_id: str) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    text = "a" * (OUTPUT_CHUNK_MAX_BYTES - 1) + "é" + "end"
    raw = text.encode()
    for start in range(0, len(raw), 50_000):
        frame = chunk(view.id, start, raw[start : start + 50_000])
        await hub.chunk(agent_id, frame)
    first = await hub.output(view.id)
    assert (first.next_offset, first.encoding) == (OUTPUT_CHUNK_MAX_BYTES - 1, TextEncoding.UTF8)
    second = await hub.output(view.id, first.next_offset)
    assert (second.data, second.next_offset, second.complete) == ("éend", len(raw), False)
    empty = await hub.output(view.id, len(raw))
    assert (empty.data, empty.complete) == ("", False)
    await hub.result(agent_id, result(view.id))
    assert [(await hub.output(view.id, offset)).complete for offset in (0, 60_000, len(raw))] == [False, True, True]
    assert bytes_in(await hub.output(view.id, 49_999))[:3] == raw[49_999:50_002]
    stderr = await hub.service.output(hub.principal, CommandsOutput(command_id=view.id, stream=OutputStream.STDERR))
    assert (stderr.data, stderr.complete) == ("", True)
    assert (await hub.get(view.id)).output_bytes == {OutputStream.STDOUT: len(raw), OutputStream.STDERR: 0}
    with pytest.raises(NotFound):
        await hub.service.output(
            technician_of("another"), CommandsOutput(command_id=view.id, stream=OutputStream.STDOUT)
        )


async def test_no_more_commands_wait_for_one_machine_than_a_hub_can_hold(
    hub: Hub, agent_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.commands.service.OPEN_OF_AN_AGENT_MAX", 2)
    first, _ = await hub.create(agent_id, idempotency_key="k1"), await hub.create(agent_id)
    with pytest.raises(QuotaReached, match="wait for this machine"):
        await hub.create(agent_id)
    assert await hub.create(agent_id, idempotency_key="k1") == first
    await hub.create(await hub.add_agent())
    await hub.service.cancel(hub.principal, CommandsCancel(command_id=first.id))
    await hub.create(agent_id)


async def test_no_more_commands_are_under_way_than_the_organisation_may_have(hub: Hub, agent_id: str) -> None:
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(
            update(OrganisationRow).where(col(OrganisationRow.id) == hub.organisation_id).values(max_open_commands=3)
        )
    first = await hub.create(agent_id, idempotency_key="k1")
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(hub.create(agent_id) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, QuotaReached) for answer in answers) == 6
    assert await stored_commands(hub) == 3
    assert await hub.create(agent_id, idempotency_key="k1") == first
    await hub.service.cancel(hub.principal, CommandsCancel(command_id=first.id))
    await hub.create(agent_id)
