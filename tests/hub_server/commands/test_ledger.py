"""What agents say of commands: results are stored once, output byte by byte, and nothing is invented."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_server.clock import milliseconds
from hub_server.commands.retention import Retention
from hub_server.commands.store import CommandStore
from hub_server.events import Deliver
from protocol.codec import BadFrame
from protocol.commands import CommandsCancel
from protocol.enumerations import CommandOutcome, CommandReason, CommandStatus, JobState, OutputStream, TextEncoding
from protocol.frames import CommandCancel, CommandOutput, CommandQuery, CommandState, JobProgress
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES, OUTPUT_CREDITS, OUTPUT_STORED_MAX_BYTES
from tests.hub_server.commands.builders import Hub, accepted, bytes_in, chunk, result, started
from tests.hub_server.commands.conftest import Listener


@pytest.fixture
async def command_id(hub: Hub, agent_id: str) -> str:
    """A command that its agent has got."""
    view = await hub.create(agent_id)
    await hub.send(view.id)
    return view.id


async def test_a_command_runs_to_its_end(hub: Hub, agent_id: str, command_id: str, heard: Listener) -> None:
    service, organisation_id = hub.service, hub.organisation_id
    await heard.events()
    await service.accepted(organisation_id, agent_id, accepted(command_id))
    began_ms = milliseconds(hub.clock.now())
    hub.clock.advance(5)
    await hub.started(agent_id, started(command_id, ts=began_ms))
    ack = await hub.chunk(agent_id, chunk(command_id, 0, "Linux\n"))
    assert (ack.offset, ack.stream, ack.credits) == (6, OutputStream.STDOUT, OUTPUT_CREDITS)
    done = result(command_id, finished_at=began_ms + 1000)
    assert (await hub.result(agent_id, done)).command_id == command_id
    view = await hub.get(command_id)
    assert (view.status, view.exit_code, view.reason) == (CommandStatus.COMPLETED, 0, None)
    assert view.started_at is not None
    assert view.finished_at is not None
    assert (view.finished_at - view.started_at).total_seconds() == 1
    assert (await hub.output(command_id)).data == "Linux\n"
    assert [type(event).__name__ for event in await heard.events()] == [
        "CommandStatusChanged",
        "CommandOutputStored",
        "CommandStatusChanged",
        "CommandFinished",
    ]
    assert service.pending_total(organisation_id) == 0


async def test_the_first_result_wins_and_every_one_is_acknowledged(
    hub: Hub, agent_id: str, command_id: str, heard: Listener
) -> None:
    first = result(command_id, CommandOutcome.FAILED, exit_code=3, reason=CommandReason.EXIT_CODE)
    for frame in (first, first, result(command_id)):
        ack = await hub.result(agent_id, frame)
        assert ack.command_id == command_id
        hub = await hub.restarted()
    view = await hub.get(command_id)
    assert (view.status, view.exit_code, view.reason) == (CommandStatus.FAILED, 3, CommandReason.EXIT_CODE)
    assert len(await heard.ends()) == 1


async def test_a_refusal_names_the_agents_rule(hub: Hub, agent_id: str, command_id: str) -> None:
    refusal = result(
        command_id, CommandOutcome.FAILED, exit_code=None, reason=CommandReason.DENIED_BY_AGENT, rule="no-shell"
    )
    await hub.result(agent_id, refusal)
    view = await hub.get(command_id)
    assert (view.reason, view.result) == (
        CommandReason.DENIED_BY_AGENT,
        "refused by the rule 'no-shell' of the agent",
    )


async def test_an_agents_clock_does_not_put_an_end_in_the_future(hub: Hub, agent_id: str, command_id: str) -> None:
    await hub.result(agent_id, result(command_id, finished_at=2**53, started_at=2**53))
    view = await hub.get(command_id)
    assert (view.started_at, view.finished_at) == (hub.clock.now(), hub.clock.now())


async def test_an_agents_clock_does_not_make_an_end_so_old_that_it_is_deleted(
    hub: Hub, agent_id: str, command_id: str
) -> None:
    made_at = hub.clock.now()
    hub.clock.advance(5)
    await hub.result(agent_id, result(command_id, started_at=0, finished_at=1))
    retention = Retention(
        database=hub.database, clock=hub.clock, store=CommandStore(), commands_days=90, output_days=30
    )
    await retention.apply()
    view = await hub.get(command_id)
    assert (view.started_at, view.finished_at) == (made_at, made_at)


async def test_what_another_agent_says_is_ignored(hub: Hub, agent_id: str, command_id: str, heard: Listener) -> None:
    other = await hub.add_agent()
    before = await hub.get(command_id)
    await heard.events()
    service, organisation_id = hub.service, hub.organisation_id
    await service.accepted(organisation_id, other, accepted(command_id))
    await hub.started(other, started(command_id))
    assert (await hub.chunk(other, chunk(command_id, 0, "lies"))).offset == 4
    assert (await hub.result(other, result(command_id))).command_id == command_id
    await service.state(organisation_id, other, CommandState(command_id=command_id, state=JobState.UNKNOWN))
    service.result("another", agent_id, result(command_id))
    await hub.settle()
    await hub.result(agent_id, result(str(uuid.uuid4())))
    assert await hub.get(command_id) == before
    assert await heard.events() == []


async def test_output_is_stored_once_and_a_gap_is_asked_for(
    hub: Hub, agent_id: str, command_id: str, heard: Listener
) -> None:
    await heard.events()
    answers = []
    for offset, data in ((0, "abc"), (5, "fgh"), (0, "abc"), (1, "bcdef"), (6, "gh"), (2, "cd")):
        ack = await hub.chunk(agent_id, chunk(command_id, offset, data))
        answers.append(ack.offset)
    assert answers == [3, 3, 3, 6, 8, 8]
    assert await heard.stored() == [(0, b"abc"), (3, b"def"), (6, b"gh")]
    assert (await hub.output(command_id)).data == "abcdefgh"


async def test_output_resumes_where_a_killed_hub_stored_it(hub: Hub, agent_id: str, command_id: str) -> None:
    await hub.chunk(agent_id, chunk(command_id, 0, "abc"))
    hub = await hub.restarted()
    ack = await hub.chunk(agent_id, chunk(command_id, 10, "x"))
    assert ack.offset == 3
    ack = await hub.chunk(agent_id, chunk(command_id, 2, "cd"))
    assert ack.offset == 4
    assert (await hub.output(command_id)).data == "abcd"


async def test_output_after_the_end_still_counts(hub: Hub, agent_id: str, command_id: str) -> None:
    await hub.result(agent_id, result(command_id))
    for offset, data in ((0, "late"), (0, "late"), (4, "r")):
        await hub.chunk(agent_id, chunk(command_id, offset, data))
    assert (await hub.output(command_id)).data == "later"


async def test_output_beyond_the_limit_is_acknowledged_and_dropped(hub: Hub, agent_id: str, command_id: str) -> None:
    page = b"\xff" * OUTPUT_CHUNK_MAX_BYTES
    for offset in range(0, OUTPUT_STORED_MAX_BYTES - OUTPUT_CHUNK_MAX_BYTES, OUTPUT_CHUNK_MAX_BYTES):
        await hub.chunk(agent_id, chunk(command_id, offset, page))
    assert not (await hub.get(command_id)).truncated
    start = OUTPUT_STORED_MAX_BYTES - OUTPUT_CHUNK_MAX_BYTES
    for offset in (start, start + len(page) - 10, start + 5 * len(page)):
        ack = await hub.chunk(agent_id, chunk(command_id, offset, page))
        assert ack.offset == offset + len(page)
    await hub.result(agent_id, result(command_id))
    view = await hub.get(command_id)
    assert view.output_bytes[OutputStream.STDOUT] == OUTPUT_STORED_MAX_BYTES
    assert view.truncated


async def test_output_that_is_no_base64_is_a_bad_frame(hub: Hub, agent_id: str, command_id: str) -> None:
    frame = CommandOutput(
        command_id=command_id, stream=OutputStream.STDOUT, offset=0, data="%%%", encoding=TextEncoding.BASE64
    )
    with pytest.raises(BadFrame):
        await hub.chunk(agent_id, frame)


pieces = st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 25), st.integers(1, 12))), max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=pieces)
async def test_stored_output_is_a_true_beginning_of_what_was_printed(
    hub: Hub, agent_id: str, script: list[tuple[int, int] | None]
) -> None:
    """Pieces of one output in any order, repeated and overlapping; None is a kill -9 of the hub."""
    output = bytes(range(65, 65 + 40))
    view = await hub.create(agent_id)
    held = 0
    for piece in script:
        if piece is None:
            hub = await hub.restarted()
            continue
        offset, size = piece
        data = output[offset : offset + size]
        ack = await hub.chunk(agent_id, chunk(view.id, offset, data))
        held = max(held, offset + len(data)) if offset <= held else held
        assert ack.offset == held
    assert bytes_in(await hub.output(view.id)) == output[:held]


async def test_hello_keeps_what_it_does_not_name_until_the_agent_says_that_it_does_not_know_it(
    hub: Hub, agent_id: str, heard: Listener, deliveries: Listener
) -> None:
    ids = []
    for _ in range(5):
        ids.append((await hub.create(agent_id)).id)
        hub.clock.advance(1)
    waiting, sent, running, lost, accepted_one = ids
    for command_id in ids[1:]:
        await hub.send(command_id)
    for command_id in (running, lost):
        await hub.started(agent_id, started(command_id))
    await heard.events()
    for each in (hub, await hub.restarted()):
        jobs = [
            JobProgress(command_id=running, state=JobState.FINISHED),
            JobProgress(command_id=accepted_one, state=JobState.STARTED),
            JobProgress(command_id="unheard-of", state=JobState.STARTED),
        ]
        open_ids = await each.service.reconcile(each.organisation_id, agent_id, jobs)
        assert open_ids == [waiting, sent, running, lost, accepted_one]
    assert await heard.ends() == []
    await deliveries.events()
    hub.sessions.connected.add(agent_id)
    await hub.service.ledger.resume(agent_id)
    await hub.service.ledger.sweep()
    frames = [event.frame for event in await deliveries.events() if isinstance(event, Deliver)]
    assert [frame for frame in frames if isinstance(frame, CommandQuery)] == [CommandQuery(command_id=lost)]
    await hub.service.state(hub.organisation_id, agent_id, CommandState(command_id=lost, state=JobState.UNKNOWN))
    views = [await hub.get(command_id) for command_id in ids]
    assert [view.status for view in views] == [
        CommandStatus.SENT,
        CommandStatus.SENT,
        CommandStatus.EXECUTING,
        CommandStatus.FAILED,
        CommandStatus.EXECUTING,
    ]
    assert views[3].reason is CommandReason.UNKNOWN
    assert [end.command_id for end in await heard.ends()] == [lost]


async def test_a_result_counts_that_hello_did_not_promise(hub: Hub, agent_id: str, command_id: str) -> None:
    """Whoever said hello had not heard in time from the process that runs jobs."""
    await hub.started(agent_id, started(command_id))
    assert await hub.service.reconcile(hub.organisation_id, agent_id, []) == [command_id]
    await hub.result(agent_id, result(command_id, exit_code=3, outcome=CommandOutcome.FAILED))
    assert (await hub.get(command_id)).exit_code == 3


async def test_a_cancelled_command_ends_when_its_agent_says_that_it_never_got_it(
    hub: Hub, agent_id: str, deliveries: Listener
) -> None:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    assert await hub.service.reconcile(hub.organisation_id, agent_id, []) == [view.id]
    await deliveries.frames()
    await hub.service.ledger.resume(agent_id)
    assert await deliveries.frames() == [CommandCancel(command_id=view.id)]
    unknown = CommandState(command_id=view.id, state=JobState.UNKNOWN)
    await hub.service.state(hub.organisation_id, agent_id, unknown)
    assert (await hub.get(view.id)).status is CommandStatus.CANCELLED


async def test_a_state_answer_counts_as_what_it_says(hub: Hub, agent_id: str, command_id: str) -> None:
    for state, status in (
        (JobState.ACCEPTED, CommandStatus.SENT),
        (JobState.STARTED, CommandStatus.EXECUTING),
        (JobState.FINISHED, CommandStatus.EXECUTING),
        (JobState.UNKNOWN, CommandStatus.FAILED),
    ):
        frame = CommandState(command_id=command_id, state=state)
        await hub.service.state(hub.organisation_id, agent_id, frame)
        assert (await hub.get(command_id)).status is status


async def test_a_forgotten_agents_commands_are_open_no_more(hub: Hub, agent_id: str, command_id: str) -> None:
    hub.service.forget(agent_id)
    assert hub.service.pending_total(hub.organisation_id) == 0
    assert hub.service.counts([agent_id]) == {agent_id: 0}
