"""Orders of every kind as they are kept: a script once an organisation, no text of it where people list or audit."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import select, update

from hub_server.audit.tables import AuditRow
from hub_server.commands.tables import CommandRow, ScriptRow
from hub_server.errors import Conflict, InvalidRequest
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.commands import CommandsList
from protocol.enumerations import Action, CommandOutcome, CommandStatus, OutputStream
from protocol.envelope import JobEnvelope
from protocol.frames import Command
from protocol.limits import COMMAND_EXPIRY_MAX_SECONDS
from tests.hub_server.commands.builders import Hub, chunk, result
from tests.hub_server.commands.conftest import Listener

TEXT: Final = "#!/bin/sh\necho a secret word\n"
DIGEST: Final = hashlib.sha256(TEXT.encode()).hexdigest()
SCRIPT: Final = {"script": TEXT, "interpreter": "sh", "arguments": ["-x"]}


async def rows_of(hub: Hub, table: Any) -> list[Any]:
    async with hub.database.read(EVERY_ORGANISATION) as connection:
        return list(await connection.execute(select(table)))


async def test_a_script_is_kept_once_and_its_text_is_only_where_it_must_be(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    views = [await hub.create(agent_id, command_type=Action.SCRIPT, command_data=SCRIPT) for _ in range(2)]
    assert [row.body for row in await rows_of(hub, ScriptRow)] == [TEXT.encode()]
    kept = {"scriptSha256": DIGEST, "scriptBytes": len(TEXT), "interpreter": "sh", "arguments": ["-x"]}
    listed = await hub.service.list(hub.principal, CommandsList())
    assert [view.command_data for view in (*views, *listed.commands)] == [kept] * 4
    assert (await hub.get(views[0].id)).command_data == SCRIPT
    audited = [msgspec.json.decode(row.detail) for row in await rows_of(hub, AuditRow)]
    assert [detail["scriptSha256"] for detail in audited] == [DIGEST] * 2
    for row in (*await rows_of(hub, CommandRow), *await rows_of(hub, AuditRow)):
        assert "secret word" not in str(row)
    await hub.send(views[0].id)
    [frame] = await deliveries.frames()
    assert isinstance(frame, Command)
    assert base64.b64decode(frame.script) == TEXT.encode()
    assert frame.command_data == kept
    envelope = msgspec.json.decode(base64.b64decode(frame.payload), type=JobEnvelope)
    assert (envelope.action, envelope.script_sha256, envelope.argv) == (Action.SCRIPT, DIGEST, ["-x"])


async def test_a_script_for_a_connected_machine_goes_out_at_once_and_again_after_a_restart(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    hub.sessions.connected.add(agent_id)
    await hub.create(agent_id, command_type=Action.SCRIPT, command_data=SCRIPT)
    [first] = await deliveries.frames()
    again = await hub.restarted()
    again.sessions.connected.add(agent_id)
    await again.service.ledger.resume(agent_id)
    assert await deliveries.frames() == [first]
    [opened] = again.service.ledger.opened
    assert opened.script_bytes == len(TEXT)


async def test_a_script_altered_in_the_database_goes_out_as_it_stands(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    view = await hub.create(agent_id, command_type=Action.SCRIPT, command_data=SCRIPT)
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(update(ScriptRow).values(body=b"rm -rf /"))
    await hub.send(view.id)
    [frame] = await deliveries.frames()
    assert isinstance(frame, Command)
    assert base64.b64decode(frame.script) == b"rm -rf /"  # the agent compares it with the signed hash


async def test_an_idempotency_key_is_for_one_script(hub: Hub, agent_id: str) -> None:
    first = await hub.create(agent_id, command_type=Action.SCRIPT, command_data=SCRIPT, idempotency_key="k")
    again = await hub.create(agent_id, command_type=Action.SCRIPT, command_data=SCRIPT, idempotency_key="k")
    assert again == first
    with pytest.raises(Conflict):
        await hub.create(
            agent_id, command_type=Action.SCRIPT, command_data=SCRIPT | {"script": "other"}, idempotency_key="k"
        )


ORDERS: Final[tuple[tuple[Action, dict[str, Any], list[str]], ...]] = (
    (Action.SERVICE, {"verb": "restart", "name": "nginx.service"}, ["restart", "nginx.service"]),
    (Action.KILL, {"pid": 4711, "signal": "KILL"}, ["4711", "KILL"]),
    (Action.PACKAGES, {"verb": "install", "names": ["curl"]}, ["install", "curl"]),
    (Action.REBOOT, {"delaySec": 60}, ["60"]),
    (Action.AGENT_RESTART, {}, []),
)


async def test_every_action_becomes_a_signed_order(hub: Hub, agent_id: str, deliveries: Listener) -> None:
    for action, data, argv in ORDERS:
        view = await hub.create(agent_id, command_type=action, command_data=data)
        assert (view.command_type, view.command_data) == (action, data)
        await hub.send(view.id)
        [frame] = await deliveries.frames()
        assert isinstance(frame, Command)
        envelope = msgspec.json.decode(base64.b64decode(frame.payload), type=JobEnvelope)
        assert (envelope.action, envelope.argv, frame.script) == (action, argv, "")
    for action, data in ((Action.KILL, {"pid": 1}), (Action.SERVICE, {"verb": "stop", "name": "--all"})):
        with pytest.raises(InvalidRequest):
            await hub.create(agent_id, command_type=action, command_data=data)


async def test_an_order_waits_for_its_machine_as_long_as_it_is_told(hub: Hub, agent_id: str) -> None:
    view = await hub.create(agent_id, expires_in_sec=COMMAND_EXPIRY_MAX_SECONDS, timeout_sec=7)
    assert (view.status, view.timeout_sec) == (CommandStatus.PENDING, 7)
    assert (view.expires_at - view.created_at).total_seconds() == COMMAND_EXPIRY_MAX_SECONDS
    hub.clock.advance(COMMAND_EXPIRY_MAX_SECONDS - 1)
    hub = await hub.restarted()
    await hub.service.ledger.sweep()
    await hub.send(view.id)
    assert (await hub.get(view.id)).status is CommandStatus.SENT


async def test_a_list_of_large_commands_is_small_and_says_what_is_cut(hub: Hub, agent_id: str) -> None:
    large = {"argv": ["echo", *("\x01" * 3000 for _ in range(10))], "environment": {"A": "b" * 9000}}
    long = await hub.create(agent_id, command_data=large)
    short = await hub.create(agent_id)
    restart = await hub.create(agent_id, command_type=Action.AGENT_RESTART, command_data={})
    await hub.send(short.id)
    await hub.result(agent_id, result(short.id, result="é" * 4000))
    listed = {view.id: view for view in (await hub.service.list(hub.principal, CommandsList())).commands}
    assert all(len(msgspec.json.encode(view)) < 10_000 for view in listed.values())
    assert listed[long.id].shortened
    assert listed[long.id].command_data["argv"][0] == "echo"
    assert listed[short.id].shortened
    assert listed[short.id].command_data == {"argv": ["uname", "-a"]}
    assert listed[short.id].result.startswith("ééé")
    assert not listed[restart.id].shortened
    whole = await hub.get(long.id)
    assert (whole.command_data, whole.shortened) == (large, False)
    assert (await hub.get(short.id)).result == "é" * 4000


async def test_a_view_says_what_the_process_wrote_beside_what_is_kept(hub: Hub, agent_id: str) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    await hub.chunk(agent_id, chunk(view.id, 0, "head tail"))
    told = {OutputStream.STDOUT: 5_000_000}
    await hub.result(agent_id, result(view.id, CommandOutcome.COMPLETED, output_bytes=told, truncated=True))
    for each in (hub, await hub.restarted()):
        shown = await each.get(view.id)
        assert shown.output_bytes == {OutputStream.STDOUT: 5_000_000, OutputStream.STDERR: 0}
        assert shown.kept_bytes == {OutputStream.STDOUT: 9, OutputStream.STDERR: 0}
        assert shown.truncated
