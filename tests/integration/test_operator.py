"""The Python client on a real hub."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub_server.operator import client, jobs
from hub_server.operator.address import Anchors, HubAddress
from hub_server.operator.client import Operator
from hub_server.operator.connection import Connection, opened
from hub_server.operator.errors import AnswerLost, NotConnected, NotSignedIn, Refused
from hub_server.operator.jobs import Job
from hub_server.operator.machines import AmbiguousMachine, NoSuchMachine, machine_called
from hub_server.operator.output import Chunk
from hub_server.operator.tokens import Token
from protocol.commands import CommandsCreate
from protocol.enumerations import CommandOutcome, CommandReason, CommandStatus, JobState, OutputStream
from protocol.frames import JobProgress
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES
from protocol.operations import AgentsGet, AgentsGetReply
from protocol.requests import Reply
from tests.integration.hub import RunningHub, running_hub
from tests.integration.inbox import DEADLINE_SECONDS
from tests.integration.machine import Identity, greeted
from tests.integration.operated import ERR, OUT, begin, finish, joined, write
from tests.integration.person import watching
from tests.integration.process_hub import process_hub
from tests.servers.postgres import free_port


@pytest.fixture(scope="module")
async def own_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path_factory.mktemp("operated")) as running:
        yield running


@pytest.fixture(scope="module")
async def machine(own_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return await joined(own_hub, tmp_path_factory.mktemp("machine"), "web-1")


@pytest.fixture
async def operator(own_hub: RunningHub, machine: Identity) -> AsyncIterator[Operator]:
    async with Operator.connect(own_hub.web_url, token=await own_hub.sign_in()) as connected:
        yield connected


async def read(job: Job, **offsets: int) -> dict[OutputStream, bytes]:
    """Return all output of a job, which has to come in order and without a hole."""
    wanted = {OutputStream(name): offset for name, offset in offsets.items()}
    got = {stream: bytearray() for stream in OutputStream}
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for chunk in job.output(wanted):
            assert chunk.offset == wanted.get(chunk.stream, 0) + len(got[chunk.stream])
            got[chunk.stream] += chunk.data
    return {stream: bytes(data) for stream, data in got.items()}


async def test_a_job_is_run_read_live_by_two_and_its_result_known(
    own_hub: RunningHub, machine: Identity, operator: Operator
) -> None:
    async with greeted(own_hub, machine) as agent, asyncio.TaskGroup() as tasks:
        job = await operator.run(machine.agent_id, ["sh", "-c", "echo"], timeout_seconds=5)
        assert (job.view.command_data, job.agent_id) == ({"argv": ["sh", "-c", "echo"]}, machine.agent_id)
        command_id = await begin(agent)
        await write(agent, command_id, OUT, 0, "grüße\n")
        first = job.output()
        assert await anext(first) == Chunk(OUT, 0, "grüße\n".encode())
        others = [tasks.create_task(read(job)), tasks.create_task(read(await operator.job(job.id), stdout=8))]
        result = tasks.create_task(job.result())
        await write(agent, command_id, ERR, 0, "odd\n")
        assert await anext(first) == Chunk(ERR, 0, b"odd\n")
        await write(agent, command_id, OUT, 8, "more\n")
        assert await anext(first) == Chunk(OUT, 8, b"more\n")
        await finish(agent, command_id, CommandOutcome.FAILED, 3, CommandReason.EXIT_CODE)
        with pytest.raises(StopAsyncIteration):
            await anext(first)
    whole, rest = [task.result() for task in others]
    assert (whole, rest) == ({OUT: "grüße\nmore\n".encode(), ERR: b"odd\n"}, {OUT: b"more\n", ERR: b"odd\n"})
    assert (result.result().exit_code, result.result().reason) == (3, CommandReason.EXIT_CODE)
    assert await read(await operator.job(job.id)) == whole


async def test_a_question_whose_answer_was_lost_is_asked_again_and_makes_one_job(
    own_hub: RunningHub, machine: Identity, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    ask = Connection.ask

    async def lose_first(connection: Connection, operation: str, request: CommandsCreate) -> object:
        nonlocal asked
        answer = await ask(connection, operation, request)
        if operation == "commands:create":
            asked += 1
            if asked == 1:
                await connection.close()
                raise AnswerLost("lost")
        return answer

    monkeypatch.setattr(Connection, "ask", lose_first)
    before = len(await jobs_of(own_hub, machine))
    job = await operator.run(machine.agent_id, ["true"])
    assert (asked, len(await jobs_of(own_hub, machine))) == (2, before + 1)
    assert (await job.cancel()).status is CommandStatus.CANCELLED
    assert (await job.result()).reason is CommandReason.CANCELLED_BY_PERSON
    assert await read(job) == {OUT: b"", ERR: b""}


async def jobs_of(hub: RunningHub, machine: Identity) -> Sequence[object]:
    async with watching(hub, await hub.sign_in()) as person:
        commands: list[object] = (await person.do("commands:list", agentId=machine.agent_id))["commands"]
        return commands


async def test_what_may_not_be_done_twice_is_not_asked_twice(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_arguments: object) -> object:
        raise AnswerLost("lost")

    monkeypatch.setattr(Connection, "ask", lose)
    with pytest.raises(AnswerLost):
        await operator.ask("agents:delete", AgentsGet(agent_id="none"), Reply)


async def test_a_refusal_says_the_code_and_the_field(operator: Operator, machine: Identity) -> None:
    with pytest.raises(Refused) as refused:
        await operator.run(machine.agent_id, [""])
    assert (refused.value.code, refused.value.path) == ("invalid_request", "$.commandData.argv[0]")
    with pytest.raises(Refused) as unknown:
        await operator.job("no-such-job")
    assert unknown.value.code == "not_found"


async def test_a_reader_that_falls_behind_gets_all_of_it_from_the_store(
    own_hub: RunningHub, machine: Identity, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub_server.operator.output.HELD_MAX_BYTES", 3 * OUTPUT_CHUNK_MAX_BYTES)
    written = "0123456789abcdef" * (OUTPUT_CHUNK_MAX_BYTES // 16)
    async with greeted(own_hub, machine) as agent:
        job = await operator.run(machine.agent_id, ["yes"])
        command_id = await begin(agent)
        await write(agent, command_id, OUT, 0, written)
        output = job.output()
        got = bytearray((await anext(output)).data)
        for number in range(1, 12):
            await write(agent, command_id, OUT, number * len(written), written)
        await finish(agent, command_id)
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for chunk in output:
                assert chunk.offset == len(got)
                got += chunk.data
    assert bytes(got) == 12 * written.encode()


def held_back(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Let clients connect again only when the second event is set; the first one says that one wants to."""
    is_away, may_return = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def opened_later(address: HubAddress, anchors: Anchors, **rest: Any) -> AsyncIterator[Connection]:
        is_away.set()
        await may_return.wait()
        async with opened(address, anchors, **rest) as connection:
            yield connection

    monkeypatch.setattr(client, "opened", opened_later)
    return is_away, may_return


@pytest.mark.parametrize("asked_every_seconds", [0.05, 3600.0])
async def test_what_came_while_the_client_was_away_is_read_when_it_is_back(
    own_hub: RunningHub,
    machine: Identity,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
    asked_every_seconds: float,
) -> None:
    """However long that was: a question without a job waits for so long only."""
    monkeypatch.setattr(jobs, "ASKED_EVERY_SECONDS", asked_every_seconds)
    for question in (Operator.ask, Job.refresh):
        assert question.__kwdefaults__ is not None
        monkeypatch.setitem(question.__kwdefaults__, "deadline_seconds", 0.3)
    async with greeted(own_hub, machine) as agent:
        job = await operator.run(machine.agent_id, ["long"])
        command_id = await begin(agent)
        await write(agent, command_id, OUT, 0, "before\n")
        output = job.output()
        assert await anext(output) == Chunk(OUT, 0, b"before\n")
        reading = asyncio.gather(anext(output), job.result())
        await asyncio.sleep(0)
        is_away, may_return = held_back(monkeypatch)
        assert operator._connection is not None
        await operator._connection.close()
        await is_away.wait()
        await write(agent, command_id, OUT, 7, "meanwhile\n")
        await finish(agent, command_id)
        with pytest.raises(NotConnected, match="has not answered agents:get"):
            await operator.ask("agents:get", AgentsGet(agent_id=machine.agent_id), AgentsGetReply, deadline_seconds=0.6)
        may_return.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            chunk, view = await reading
            assert (chunk, view.status) == (Chunk(OUT, 7, b"meanwhile\n"), CommandStatus.COMPLETED)
            with pytest.raises(StopAsyncIteration):
                await anext(output)


async def test_output_goes_on_where_it_was_when_the_hub_is_killed_and_started_again(folder: Path) -> None:
    ports = {"JTNT_PEOPLE__PORT": str(free_port()), "JTNT_AGENTS__PORT": str(free_port())}
    async with process_hub(folder / "hub", **ports) as hub:
        identity = await joined(hub, folder, "killed")
        async with Operator.connect(hub.web_url, token=await hub.sign_in()) as operator:
            async with greeted(hub, identity) as agent:
                job = await operator.run(identity.agent_id, ["long"])
                command_id = await begin(agent)
                await write(agent, command_id, OUT, 0, "before\n")
                output = job.output()
                assert await anext(output) == Chunk(OUT, 0, b"before\n")
                os.kill(hub.pid, signal.SIGKILL)
            await hub.start()
            running = JobProgress(command_id=command_id, state=JobState.STARTED, offsets={OUT: 7})
            async with greeted(hub, identity, jobs=[running]) as agent:
                await write(agent, command_id, OUT, 0, "before\nafter\n")
                assert await anext(output) == Chunk(OUT, 7, b"after\n")
                await finish(agent, command_id)
                with pytest.raises(StopAsyncIteration):
                    await anext(output)
            assert (await job.result()).status is CommandStatus.COMPLETED


async def test_who_cannot_be_let_in_is_told_why(own_hub: RunningHub) -> None:
    with pytest.raises(NotSignedIn):
        async with Operator.connect(own_hub.web_url, token="jtntk_none.none"):
            pass
    with pytest.raises(NotConnected, match="cannot reach"):
        async with Operator.connect(f"http://127.0.0.1:{free_port()}", token="x"):
            pass
    with pytest.raises(NotConnected, match=f"does not speak TLS; try {own_hub.web_url}"):
        async with Operator.connect(own_hub.web_url.removeprefix("http://"), token="x"):
            pass
    with pytest.raises(ZeroDivisionError):  # what fails in the block comes out of it as it is
        async with Operator.connect(own_hub.web_url, token=await own_hub.sign_in()):
            _ = 1 // 0


async def test_a_sign_in_is_renewed_before_it_ends(own_hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LATER_SECONDS", 0.01)
    monkeypatch.setattr(client, "RENEWED_AHEAD_SECONDS", 3600.0)
    heard: asyncio.Queue[str] = asyncio.Queue(8)
    ask = Connection.ask

    async def noted(connection: Connection, operation: str, request: CommandsCreate) -> object:
        answer = await ask(connection, operation, request)
        heard.put_nowait(f"{operation} {bytes(answer).decode()[:20]}")
        return answer

    class Tokens:
        async def token(self) -> Token:
            return Token(await own_hub.sign_in(), expires_at=0.0)

        async def renewed(self, _spent: Token, /) -> Token:
            return Token(await own_hub.sign_in())

    monkeypatch.setattr(Connection, "ask", noted)
    async with Operator.connect(own_hub.web_url, token=Tokens()), asyncio.timeout(DEADLINE_SECONDS):
        assert (await heard.get()).startswith('auth:refresh {"expiresIn')


async def test_machines_are_found_by_what_people_call_them(
    own_hub: RunningHub, machine: Identity, operator: Operator, folder: Path
) -> None:
    twins = [await joined(own_hub, folder, "twin") for _ in range(2)]
    for called in (machine.agent_id, "web-1", "WEB-1"):
        assert (await machine_called(operator, called)).id == machine.agent_id
    with pytest.raises(AmbiguousMachine, match=twins[0].agent_id):
        await machine_called(operator, "twin")
    with pytest.raises(NoSuchMachine, match="did you mean one of: web-1"):
        await machine_called(operator, "web")
