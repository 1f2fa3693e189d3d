"""What agents say is shown at once, stored in group commits, and acknowledged after them: never a hole, never a lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import OperationalError
from sqlmodel import col

from hub_server.bus.in_process import InProcessBus
from hub_server.commands.engine import WAITING_BYTES_MAX, CancelRequested, advance, credits_of, with_waiting
from hub_server.commands.store import CommandStore
from hub_server.commands.tables import ScriptRow
from hub_server.events import CommandOutputStored, CommandStatusChanged
from hub_server.fleet.tables import AgentRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.commands import CommandsCancel
from protocol.enumerations import CommandOutcome, CommandReason, CommandStatus, OutputStream
from protocol.frames import CommandOutputAck, CommandResultAck
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES, OUTPUT_CREDITS
from tests.clocks import FakeClock
from tests.hub_server.commands.builders import Hub, KnownAgents, chunk, result, started
from tests.hub_server.commands.conftest import Listener

T = TypeVar("T")


class Gate(Database):
    """Takes transactions when it is open; `taken` counts those."""

    def __init__(self, real: Database) -> None:
        self.__dict__ = real.__dict__
        self.opened = asyncio.Event()
        self.opened.set()
        self.fails = 0
        self.taken = 0

    async def transact(self, organisation_id: str, work: Callable[[Connection], T]) -> T:
        if self.fails:
            self.fails -= 1
            raise OperationalError("COMMIT", None, Exception("disk full"))
        async with asyncio.timeout(30):
            await self.opened.wait()
        self.taken += 1
        return await super().transact(organisation_id, work)


@pytest.fixture
def gate(database: Database) -> Gate:
    return Gate(database)


@pytest.fixture
def hub(gate: Gate, bus: InProcessBus, clock: FakeClock, organisation_id: str) -> Hub:
    return Hub(gate, bus, clock, organisation_id, KnownAgents())


@pytest.fixture
async def command_id(hub: Hub, agent_id: str, heard: Listener, deliveries: Listener) -> str:
    view = await hub.create(agent_id)
    await hub.send(view.id)
    await heard.events()
    await deliveries.events()
    return view.id


async def test_people_see_output_before_its_commit_and_agents_their_acknowledgement_after_it(
    hub: Hub, gate: Gate, agent_id: str, command_id: str, heard: Listener, deliveries: Listener
) -> None:
    gate.opened.clear()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.service.ledger.recorder.run(), name="recorder")
        hub.service.started(hub.organisation_id, agent_id, started(command_id))
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(command_id, 0, "one "))
        for _ in range(2):
            await asyncio.sleep(0)  # the recorder stores the first two
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(command_id, 4, "two"))
        assert [type(event) for event in await heard.events()] == [
            CommandStatusChanged,
            CommandOutputStored,
            CommandOutputStored,
        ]
        view = await hub.get(command_id)
        assert (view.status, view.kept_bytes[OutputStream.STDOUT]) == (CommandStatus.EXECUTING, 7)
        assert [(await hub.output(command_id, offset)).data for offset in (0, 3, 4, 7)] == [
            "one two",
            " two",
            "two",
            "",
        ]
        assert await deliveries.events() == []
        hub.service.result(hub.organisation_id, agent_id, result(command_id))
        assert await heard.events() == []
        gate.opened.set()
        async with asyncio.timeout(30):
            acks = [await deliveries.next() for _ in range(3)]
        running.cancel()
    assert [type(ack) for ack in acks] == [CommandOutputAck, CommandOutputAck, CommandResultAck]
    assert [ack.offset for ack in acks if isinstance(ack, CommandOutputAck)] == [4, 7]
    restarted = await hub.restarted()
    assert (await restarted.output(command_id)).data == "one two"
    assert (await restarted.get(command_id)).status is CommandStatus.COMPLETED


async def test_what_an_agent_says_while_people_are_told_of_its_start_shares_the_commit(
    hub: Hub, gate: Gate, agent_id: str, command_id: str, deliveries: Listener
) -> None:
    before = gate.taken
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.service.ledger.recorder.run(), name="recorder")
        await asyncio.sleep(0)
        hub.service.started(hub.organisation_id, agent_id, started(command_id))
        await asyncio.sleep(0)
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(command_id, 0, "one"))
        async with asyncio.timeout(30):
            await deliveries.next()
        running.cancel()
    assert gate.taken == before + 1


async def test_what_gathers_while_a_commit_runs_is_one_commit(
    hub: Hub, gate: Gate, agent_id: str, command_id: str, deliveries: Listener
) -> None:
    others = [(await hub.create(agent_id)).id for _ in range(20)]
    for other in others:
        await hub.send(other)
    before = gate.taken
    for identifier in (command_id, *others):
        hub.service.started(hub.organisation_id, agent_id, started(identifier))
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(identifier, 0, "x"))
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(identifier, 1, "y"))
        hub.service.result(hub.organisation_id, agent_id, result(identifier))
    await hub.settle()
    assert gate.taken == before + 1
    assert {(await hub.get(each)).status for each in (command_id, *others)} == {CommandStatus.COMPLETED}
    assert (await hub.output(command_id)).data == "xy"


async def test_a_commit_that_fails_costs_nothing_but_time(
    hub: Hub, gate: Gate, agent_id: str, command_id: str, deliveries: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.commands.recorder.RETRY_FIRST_SECONDS", 0.001)
    gate.fails = 3
    await hub.service.chunk(hub.organisation_id, agent_id, chunk(command_id, 0, "kept"))
    hub.service.result(hub.organisation_id, agent_id, result(command_id))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.service.ledger.recorder.run(), name="recorder")
        async with asyncio.timeout(30):
            acks = [await deliveries.next() for _ in range(2)]
        running.cancel()
    assert [type(ack) for ack in acks] == [CommandOutputAck, CommandResultAck]
    assert hub.service.ledger.recorder.failed_commits == 3
    assert hub.service.ledger.recorder.waiting_bytes == 0
    assert (await (await hub.restarted()).output(command_id)).data == "kept"


async def test_what_the_database_refuses_for_good_hinders_nobody_else(
    hub: Hub, agent_id: str, command_id: str, deliveries: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await hub.create(agent_id)
    await hub.send(other.id)
    await deliveries.events()
    add = CommandStore.add_output

    def refusing(store: CommandStore, connection: Connection, organisation_id: str, *where: Any, **what: Any) -> bool:
        if what["data"] == b"poison":
            row = {"organisation_id": organisation_id, "sha256": "x", "used_at": hub.clock.now(), "body": None}
            connection.execute(insert(ScriptRow), row)
        return add(store, connection, organisation_id, *where, **what)

    monkeypatch.setattr(CommandStore, "add_output", refusing)
    for identifier, text in ((command_id, "poison"), (other.id, "fine")):
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(identifier, 0, text))
    await hub.settle()
    assert [ack.command_id for ack in await deliveries.acks()] == [other.id]
    assert (await hub.output(command_id)).data == ""
    monkeypatch.undo()
    assert (await hub.chunk(agent_id, chunk(command_id, 0, "poison"))).offset == 6


async def test_what_fails_again_and_again_lets_the_others_go_first(
    hub: Hub, agent_id: str, command_id: str, deliveries: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.commands.recorder.RETRY_FIRST_SECONDS", 0.001)
    other = await hub.create(agent_id)
    await hub.send(other.id)
    await deliveries.events()
    add = CommandStore.add_output

    def failing(store: CommandStore, connection: Connection, *where: Any, **what: Any) -> bool:
        if what["data"] == b"poison":
            raise OperationalError("INSERT", None, Exception("nobody knows why"))
        return add(store, connection, *where, **what)

    monkeypatch.setattr(CommandStore, "add_output", failing)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.service.ledger.recorder.run(), name="recorder")
        for identifier, text in ((command_id, "poison"), (other.id, "fine")):
            await hub.service.chunk(hub.organisation_id, agent_id, chunk(identifier, 0, text))
        async with asyncio.timeout(30):
            ack = await deliveries.next()
        running.cancel()
    assert isinstance(ack, CommandOutputAck)
    assert ack.command_id == other.id


async def test_credits_fall_to_nothing_while_the_writer_is_behind_and_rise_again(
    hub: Hub, gate: Gate, agent_id: str, command_id: str, deliveries: Listener
) -> None:
    page = b"\xff" * OUTPUT_CHUNK_MAX_BYTES
    ids = [command_id]
    while len(ids) * 16 * len(page) < WAITING_BYTES_MAX:
        ids.append((await hub.create(agent_id)).id)
    for identifier in ids:
        for offset in range(0, 16 * len(page), len(page)):
            await hub.service.chunk(hub.organisation_id, agent_id, chunk(identifier, offset, page))
    late = (await hub.create(agent_id)).id
    await hub.send(late)
    await deliveries.events()
    await hub.service.chunk(hub.organisation_id, agent_id, chunk(late, 0, b"\xff"))
    hub.service.result(hub.organisation_id, agent_id, result(late))
    [refused] = await deliveries.acks()
    assert (refused.command_id, refused.offset, refused.credits) == (late, 0, 0)
    await hub.settle()
    acks = await deliveries.acks()
    assert acks[-1].credits == OUTPUT_CREDITS
    assert acks[0].credits < OUTPUT_CREDITS
    assert max(ack.credits for ack in acks if ack.command_id == late) > 0
    assert (await hub.get(late)).status is CommandStatus.COMPLETED  # a result is never held
    assert (await hub.chunk(agent_id, chunk(late, 0, b"\xff"))).offset == 1


def test_credits_are_in_proportion_to_the_room() -> None:
    half = WAITING_BYTES_MAX // 2
    assert [credits_of(size) for size in (0, half, WAITING_BYTES_MAX, 2 * WAITING_BYTES_MAX)] == [16, 8, 0, 0]


@given(
    stored_at_first=st.integers(0, 20),
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=5),
    offset=st.integers(0, 30),
    limit=st.integers(1, 80),
    data=st.data(),
)
def test_memory_and_store_together_have_no_hole_and_nothing_twice(
    stored_at_first: int, sizes: list[int], offset: int, limit: int, data: st.DataObject
) -> None:
    """Pieces wait from `stored_at_first` on; the store is asked later, when some of them may be in it."""
    known = bytes(range(stored_at_first + sum(sizes)))
    starts = list(accumulate(sizes, initial=stored_at_first))
    pieces = [(start, known[start:end]) for start, end in pairwise(starts)]
    stored_then = data.draw(st.integers(stored_at_first, len(known)))
    stored = known[offset:stored_then][:limit]
    assert with_waiting(stored, offset, pieces, limit) == known[offset:][:limit]


async def test_a_command_that_was_deleted_with_its_agent_is_told_no_more(
    hub: Hub, agent_id: str, command_id: str, deliveries: Listener
) -> None:
    await hub.service.chunk(hub.organisation_id, agent_id, chunk(command_id, 0, "late"))
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(AgentRow).where(col(AgentRow.id) == agent_id))
    await hub.settle()
    assert [ack.offset for ack in await deliveries.acks()] == [4]
    assert hub.service.ledger.recorder.waiting_bytes == 0


# Two hubs on one database.


async def test_two_hubs_that_store_ends_at_once_agree_on_the_first(hub: Hub, agent_id: str) -> None:
    other = await hub.restarted()
    for _ in range(10):
        view = await hub.create(agent_id)
        await hub.send(view.id)
        hub.service.result(hub.organisation_id, agent_id, result(view.id, exit_code=1))
        other.service.result(hub.organisation_id, agent_id, result(view.id, CommandOutcome.FAILED, exit_code=2))
        async with asyncio.timeout(30):
            await asyncio.gather(hub.settle(), other.settle())
        stored = await hub.get(view.id)
        assert (stored.status, stored.exit_code) in {(CommandStatus.COMPLETED, 1), (CommandStatus.FAILED, 2)}
        assert await other.get(view.id) == stored


async def test_output_that_two_hubs_take_has_no_hole(hub: Hub, gate: Gate, agent_id: str, command_id: str) -> None:
    """The other hub stores a byte that this one does not know of; what this one has gathered would leave a hole."""
    other = await hub.restarted()
    await hub.chunk(agent_id, chunk(command_id, 0, "abc"))
    await other.chunk(agent_id, chunk(command_id, 3, "d"))
    gate.opened.clear()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(command_id, 3, "de"))
        tasks.create_task(hub.settle(), name="settle")
        await asyncio.sleep(0)
        await hub.service.chunk(hub.organisation_id, agent_id, chunk(command_id, 5, "fg"))
        gate.opened.set()
    assert (await (await hub.restarted()).output(command_id)).data == "abcd"
    assert (await hub.chunk(agent_id, chunk(command_id, 4, "efg"))).offset == 7
    assert (await (await hub.restarted()).output(command_id)).data == "abcdefg"


async def test_a_stranger_holds_up_nobodys_end(hub: Hub, agent_id: str, command_id: str, deliveries: Listener) -> None:
    stranger, another_hub = await hub.add_agent(), await hub.restarted()
    another_hub.service.ledger.opened.drop(command_id)  # as long as its sweep has not found the command
    for who in (stranger, agent_id):
        another_hub.service.started(hub.organisation_id, who, started(command_id))
        outcome = CommandOutcome.FAILED if who == stranger else CommandOutcome.COMPLETED
        another_hub.service.result(hub.organisation_id, who, result(command_id, outcome))
    await another_hub.settle()
    assert (await hub.get(command_id)).status is CommandStatus.COMPLETED
    assert len(await deliveries.events()) == 2  # both are acknowledged


async def test_long_results_fill_what_may_wait_sooner(
    hub: Hub, gate: Gate, agent_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away, agents may say what they like: the hub's memory is not theirs."""
    monkeypatch.setattr("hub_server.commands.recorder.ENTRIES_MAX", 32)
    for number in range(8):
        frame = result(f"unheard-of-{number}", result="x" * 4096)
        hub.service.result(hub.organisation_id, agent_id, frame)
    recorder = hub.service.ledger.recorder
    assert [any(recorder.of(f"{agent_id} unheard-of-{number}")) for number in range(3)] == [True, True, False]
    await hub.settle()
    hub.service.result(hub.organisation_id, agent_id, result("unheard-of-8"))
    assert any(recorder.of(f"{agent_id} unheard-of-8"))


async def test_a_lost_race_is_read_again(hub: Hub, agent_id: str, command_id: str) -> None:
    """Between the reading of a command and its saving another writer changes it: nothing of either is lost."""
    store = CommandStore()
    raced: list[bool] = []
    find = CommandStore.find

    def overtaken(self: CommandStore, connection: Connection, organisation_id: str, identifier: str) -> object:
        found = find(self, connection, organisation_id, identifier)
        if found is not None and not raced:
            raced.append(True)
            store.save(connection, found, advance(found, CancelRequested(found.created_at)), hub.clock.now())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CommandStore, "find", overtaken)
        hub.service.started(hub.organisation_id, agent_id, started(command_id))
        await hub.settle()
    view = await hub.get(command_id)
    assert raced
    assert (view.status, view.cancel_requested) == (CommandStatus.EXECUTING, True)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(["cancel", "result", "output", "settle"]), sent=st.booleans())
async def test_a_cancel_that_races_the_end_leaves_one_terminal_state(
    hub: Hub, agent_id: str, heard: Listener, order: list[str], sent: bool
) -> None:
    view = await hub.create(agent_id)
    if sent:
        await hub.send(view.id)
    await heard.events()

    async def say(what: str) -> None:
        match what:
            case "cancel":
                await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
            case "result":
                hub.service.result(hub.organisation_id, agent_id, result(view.id))
            case "output":
                await hub.service.chunk(hub.organisation_id, agent_id, chunk(view.id, 0, "x"))
            case _:
                await hub.settle()

    async with asyncio.timeout(30):
        await asyncio.gather(*map(say, order))
        await hub.settle()
    [end] = await heard.ends()
    stored = await (await hub.restarted()).get(view.id)
    assert stored.status is end.status
    assert stored.status in {CommandStatus.COMPLETED, CommandStatus.CANCELLED}
    assert (stored.reason is CommandReason.CANCELLED_BY_PERSON) == (stored.status is CommandStatus.CANCELLED)
    assert (await hub.output(view.id)).data == "x"
    assert hub.service.pending_total(hub.organisation_id) == 0
