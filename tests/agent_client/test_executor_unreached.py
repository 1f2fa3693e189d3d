"""What the daemon says of orders while it does not reach its executor: what it knows, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent_client.execution import backlog, link
from agent_client.execution.link import ExecutorLink, ExecutorUnreachable
from agent_client.execution.places import ExecutorPlaces
from agent_client.execution.wire import Channel, ToDaemon
from agent_client.paths import Places
from agent_client.turns import is_locked
from protocol.enumerations import CommandReason
from protocol.frames import CommandResult
from tests.agent_client.alive import alive, until
from tests.agent_client.clock import SteppingClock
from tests.agent_client.fleet import Fleet, own_id
from tests.agent_client.hub import Hub, running
from tests.agent_client.test_privilege import process

pytestmark = pytest.mark.usefixtures("hurried")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of an executor that does not answer."""
    with path.open("w+") as file:
        assert is_locked(file)
        yield


@pytest.mark.parametrize(
    ("is_service", "is_there", "is_told"), [(False, False, True), (False, True, False), (True, False, False)]
)
async def test_an_order_is_told_not_to_have_run_only_where_no_executor_can_have_it(
    fleet: Fleet, places: Places, monkeypatch: pytest.MonkeyPatch, is_service: bool, is_there: bool, is_told: bool
) -> None:
    """This daemon has just begun: it does not know what the one before it has handed on."""
    tries = 0

    async def reached(_link: ExecutorLink) -> Channel[ToDaemon]:
        nonlocal tries
        tries += 1
        raise ExecutorUnreachable("it does not answer")

    monkeypatch.setattr(ExecutorLink, "_reached", reached)
    monkeypatch.setattr(link, "RETRY_SECONDS", (0.0,))
    config = fleet.enroll_by_hand(places, 1, executor_service=is_service)
    way = ExecutorLink(places, lambda: config, SteppingClock(), lambda: None)
    with ExitStack() as stack:
        if is_there:
            stack.enter_context(held(ExecutorPlaces.beside(places).lock))
        way.carry(fleet.command(fleet.envelope(own_id("unreached-1"), ["true"])))
        async with asyncio.TaskGroup() as group:
            running_link = group.create_task(way.run(), name="link")
            await until(lambda: tries > 2 or not way._waiting)
            running_link.cancel()
    told = [answer.reason for answer in way.answers() if isinstance(answer, CommandResult)]
    assert told == ([CommandReason.START_FAILED] if is_told else [])
    assert [*way._waiting] == ([] if is_told else [(own_id("unreached-1"), "Command")])


async def test_what_waits_is_bounded_in_bytes_and_an_order_that_comes_again_takes_no_more(
    fleet: Fleet, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fleet.enroll_by_hand(places, 1, executor_service=True)
    way = ExecutorLink(places, lambda: config, SteppingClock(), lambda: None)
    orders = [fleet.command(fleet.envelope(own_id(f"unreached-{number}"), ["true"])) for number in range(3)]
    monkeypatch.setattr(backlog, "BYTES_MAX", sum(len(order.payload) for order in orders[:2]))
    for number in (0, 1, 1, 2):
        way.carry(orders[number])
    assert [command_id for command_id, _ in way._waiting] == [own_id("unreached-0"), own_id("unreached-1")]


async def test_an_order_waits_for_an_executor_that_is_a_service_and_runs_when_that_comes(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gave_up = asyncio.Event()
    monkeypatch.setattr(link, "RETRY_SECONDS", (0.05,))
    give_up = ExecutorLink._give_up_for_now

    def giving_up(way: ExecutorLink, message: str) -> None:
        give_up(way, message)
        gave_up.set()

    monkeypatch.setattr(ExecutorLink, "_give_up_for_now", giving_up)
    service = ["executor", "--data-dir", str(places.state), "--folder", str(tmp_path / "executor")]
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, executor_service=True)
        async with alive(places, keeps_executor=True) as agent:
            peer = await hub.peer()
            await peer.send(
                fleet.command(fleet.envelope(own_id("unreached-1"), ["sh", "-c", f"echo x >> {tmp_path}/ran"]))
            )
            await until(lambda: agent._jobs._waiting)
            gave_up.clear()
            await gave_up.wait()
            async with process(sys.executable, "-m", "agent_client.cli", *service):
                assert (await peer.first(CommandResult)).exit_code == 0
    assert [result.exit_code for result in peer.all(CommandResult)] == [0]
    assert (tmp_path / "ran").read_text() == "x\n"
