"""The executor as a process of its own: started when there is work, one a folder, killed at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent_client.cli import main
from agent_client.clock import SystemClock
from agent_client.execution import link
from agent_client.execution.journal import Journal
from agent_client.execution.places import ExecutorPlaces
from agent_client.execution.wire import Channel, ChannelLost, Standing, ToDaemon, to_daemon
from agent_client.paths import Places
from agent_client.spool.database import Database
from protocol.enumerations import CommandOutcome, CommandReason, GoodbyeReason
from protocol.frames import (
    CommandAccepted,
    CommandCancel,
    CommandOutput,
    CommandResult,
    CommandStarted,
    Goodbye,
    Hello,
)
from tests.agent_client.alive import alive, until
from tests.agent_client.clock import SteppingClock
from tests.agent_client.executors import end_executor, executor_of
from tests.agent_client.fleet import Fleet, own_id
from tests.agent_client.hub import Hub, running
from tests.agent_client.test_daemon import daemon_of
from tests.agent_client.test_privilege import process
from tests.agent_client.test_process import gone, is_alive

pytestmark = pytest.mark.usefixtures("hurried")
PASSING = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""Becomes another program, to which it passes a socket as systemd does."""


async def test_it_is_started_by_the_first_job_kept_for_the_next_and_ends_when_there_is_none(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, executor_idle_seconds=0.5)
        async with alive(places) as agent:
            peer = await hub.peer()
            assert executor_of(places) is None
            processes = []
            for number in (1, 2):
                await peer.send(fleet.command(fleet.envelope(own_id(f"executor-{number}"), ["true"])))
                await peer.several(number, CommandResult)
                processes.append(executor_of(places))
            assert processes[0] is not None
            assert processes[0] == processes[1]
            await until(lambda: agent.status().jobs_unreported == 0)
            await until(lambda: executor_of(places) is None)
            await peer.send(fleet.command(fleet.envelope(own_id("executor-3"), ["true"])))
            await peer.several(3, CommandResult)
            assert executor_of(places) not in {None, processes[0]}


async def test_there_is_one_a_folder_and_its_socket_is_for_the_owner_alone(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), ["true"])))
            await peer.first(CommandResult)
            first = executor_of(places)
            await link.start_executor(places)
            assert executor_of(places) == first
            assert ExecutorPlaces.beside(places).socket.stat().st_mode & 0o777 == 0o600
            await peer.send(fleet.command(fleet.envelope(own_id("executor-2"), ["true"])))
            await peer.several(2, CommandResult)


async def test_killed_before_a_job_has_started_it_runs_once_and_what_had_started_never_again(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, running_jobs_max=1)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(
                fleet.command(fleet.envelope(own_id("executor-1"), ["sh", "-c", f"echo x >> {tmp_path}/one; sleep 60"]))
            )
            await peer.first(CommandStarted)
            await peer.send(
                fleet.command(fleet.envelope(own_id("executor-2"), ["sh", "-c", f"echo x >> {tmp_path}/two"]))
            )
            await peer.several(2, CommandAccepted)
            end_executor(places, signal.SIGKILL)
            results = {result.command_id: result for result in await peer.several(2, CommandResult)}
    assert results[own_id("executor-1")].reason is CommandReason.INTERRUPTED
    assert results[own_id("executor-2")].status is CommandOutcome.COMPLETED
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text() == "x\n"


async def test_killed_between_the_start_on_disk_and_the_process_the_job_is_interrupted_and_never_runs(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_MODULE", "tests.agent_client.dying_executor")
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), ["touch", str(tmp_path / "ran")])))
            result = await peer.first(CommandResult)
            await peer.send(fleet.command(fleet.envelope(own_id("executor-2"), ["true"])))
            await peer.several(2, CommandResult)
    assert (places.state / "died").exists()
    assert result.reason is CommandReason.INTERRUPTED
    assert not (tmp_path / "ran").exists()


async def test_a_cancel_ends_even_what_left_its_group_its_parent_its_environment_and_its_label(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    code = (
        "import os, resource, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    resource.setrlimit(10, resource.getrlimit(10)[1:] * 2)\n"
        "    if os.fork() == 0: os.execve('/bin/sh', ['sh', '-c', 'trap \"\" TERM; echo $$; sleep 60; sleep 60'], {})\n"
        "    os._exit(0)\n"
        "os.wait(); time.sleep(60)"
    )
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), [sys.executable, "-c", code])))
            pid = int((await peer.first(CommandOutput)).data)
            await peer.send(fleet.command(fleet.envelope(own_id("executor-2"), ["sleep", "60"])))
            await peer.several(2, CommandStarted)
            await peer.send(CommandCancel(command_id=own_id("executor-1")))
            result = await peer.first(CommandResult)
            assert (result.command_id, result.status) == (own_id("executor-1"), CommandOutcome.CANCELLED)
            assert await gone(pid)
            await peer.send(CommandCancel(command_id=own_id("executor-2")))
            await peer.several(2, CommandResult)


async def test_a_cancel_spares_what_an_earlier_job_has_left_behind(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    """It has put off all by which it is known, and was made while the later job ran already."""
    leaves = "{ ulimit -S -x unlimited; exec env -i setsid sleep 60; } </dev/null >/dev/null 2>&1 & echo $!"
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), ["sleep", "60"])))
            await peer.first(CommandStarted)
            await peer.send(fleet.command(fleet.envelope(own_id("executor-2"), ["bash", "-c", leaves])))
            pid = int((await peer.first(CommandOutput)).data)
            assert (await peer.first(CommandResult)).result == ""  # the other job's process is not told as its own
            await peer.send(CommandCancel(command_id=own_id("executor-1")))
            await peer.several(2, CommandResult)
            assert is_alive(pid)
            os.kill(pid, signal.SIGKILL)


async def test_an_order_that_may_have_run_is_not_told_not_to_have_when_no_executor_can_be_started(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon was killed before it could pass on that the order was accepted; the hub sends it again."""
    monkeypatch.setattr(link, "RETRY_SECONDS", (0.05,))
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        database = Database(ExecutorPlaces.beside(places).journal)
        known = fleet.envelope(own_id("executor-1"), ["true"])
        journal = Journal(database, SystemClock())
        journal.accept(known, b"payload")
        journal.start(own_id("executor-1"))
        database.close()
        with monkeypatch.context() as broken:
            broken.setattr(link, "_MODULE", "no.such.module")
            async with alive(places):
                peer = await hub.peer(1)
                for envelope in (known, fleet.envelope(own_id("executor-2"), ["true"])):
                    await peer.send(fleet.command(envelope))
                result = await peer.first(CommandResult)
                assert (result.command_id, result.reason) == (own_id("executor-2"), CommandReason.START_FAILED)
        async with alive(places):
            again = await hub.peer(2)
            await again.send(fleet.command(known))
            assert (await again.first(CommandResult)).reason is CommandReason.INTERRUPTED
    assert [result.command_id for result in peer.all(CommandResult)] == [own_id("executor-2")]


async def test_an_executor_that_is_lost_again_and_again_is_called_less_often(
    fleet: Fleet, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    async def reached(_link: link.ExecutorLink) -> Channel[ToDaemon]:
        nonlocal calls
        calls += 1
        raise ChannelLost("it ends at once")

    monkeypatch.setattr(link.ExecutorLink, "_reached", reached)
    monkeypatch.setattr(link, "LOST_SECONDS", (0.0, 0.0, 3600.0))
    config = fleet.enroll_by_hand(places, 1, executor_service=True)
    way = link.ExecutorLink(places, lambda: config, SteppingClock(), lambda: None)
    async with asyncio.TaskGroup() as group:
        running_link = group.create_task(way.run(), name="link")
        for _ in range(100):
            await asyncio.sleep(0)
        running_link.cancel()
    assert calls == 3


async def test_an_order_that_no_executor_can_be_started_for_is_told_not_to_have_run(
    fleet: Fleet, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "RETRY_SECONDS", (0.05,))
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        (places.state / "journal.db").mkdir()
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), ["true"])))
            result = await peer.first(CommandResult)
    assert result.reason is CommandReason.START_FAILED
    assert "journal.db" in result.result


@pytest.mark.parametrize("turns", range(5))
async def test_a_daemon_that_stops_in_the_moment_in_which_its_executor_ends_does_stop(
    fleet: Fleet, places: Places, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    ends, heard = asyncio.Event(), asyncio.Event()

    class Ending(Channel[ToDaemon]):
        async def hear(self) -> ToDaemon:
            if not heard.is_set():
                heard.set()
                return Standing(0, 0, 0, [])
            await ends.wait()
            raise ChannelLost("it ends")

    async def reached(_link: link.ExecutorLink) -> Channel[ToDaemon]:
        _, writer = await asyncio.open_unix_connection(sock=ours)
        return Ending(asyncio.StreamReader(), writer, to_daemon)

    ours, theirs = socket.socketpair()
    monkeypatch.setattr(link.ExecutorLink, "_reached", reached)
    config = fleet.enroll_by_hand(places, 1, executor_service=True)
    way = link.ExecutorLink(places, lambda: config, SteppingClock(), lambda: None)
    with theirs:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            running_link = group.create_task(way.run(), name="link")
            await heard.wait()
            await until(lambda: way._channel)
            ends.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            running_link.cancel()


async def test_a_socket_that_a_service_manager_passes_on_is_served_and_stays_when_the_executor_ends(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, executor_service=True)
        service = ["executor", "--data-dir", str(places.state), "--folder", str(tmp_path / "executor")]
        passing = [sys.executable, "-c", PASSING, str(places.state / "executor.sock")]
        async with process(*passing, "-m", "agent_client.cli", *service) as executor:
            await until((places.state / "executor.sock").exists)
            async with alive(places):
                peer = await hub.peer()
                await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), ["true"])))
                assert (await peer.first(CommandResult)).exit_code == 0
            executor.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await executor.wait() == 0
            assert (places.state / "executor.sock").is_socket()
            assert b'"steps":2' in (tmp_path / "executor" / "marks" / "journal.json").read_bytes()


async def test_a_job_restarts_the_agent_after_its_result_was_told(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as daemon:
            first = await hub.peer(1)
            await first.send(fleet.command(fleet.envelope(own_id("executor-1"), [], action="agent:restart")))
            assert (await first.first(CommandResult)).status is CommandOutcome.COMPLETED
            assert (await first.first(Goodbye)).reason is GoodbyeReason.RESTART
            second = await hub.peer(2)
            assert second.all(Hello)[0].jobs == []
            await second.send(fleet.command(fleet.envelope(own_id("executor-2"), ["true"])))
            await second.first(CommandResult)
            assert daemon.process.returncode is None


async def test_no_order_signals_the_daemon_or_the_executor(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as daemon:
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("executor-0"), ["true"])))
            await peer.first(CommandResult)
            for number, pid in enumerate((daemon.process.pid, executor_of(places)), start=1):
                await peer.send(
                    fleet.command(fleet.envelope(own_id(f"executor-{number}"), [str(pid), "KILL"], action="kill"))
                )
                result = (await peer.several(number + 1, CommandResult))[number]
                assert result.reason is CommandReason.START_FAILED
                assert result.result.startswith(f"process {pid} is the agent itself")
            assert daemon.process.returncode is None


async def test_the_machines_shutdown_ends_jobs_and_their_end_is_told_later(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), ["sh", "-c", "echo $$; sleep 60"])))
            pid = int((await peer.first(CommandOutput)).data)
            await asyncio.to_thread(end_executor, places)
            assert await gone(pid)
            assert (await peer.first(CommandResult)).reason is CommandReason.INTERRUPTED


async def test_the_machines_own_list_of_jobs_says_who_asked_for_what_and_how_it_ended(
    fleet: Fleet, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["jobs", "--data-dir", str(places.state)]
    assert main(arguments) == 0
    assert "no job has run here yet" in capsys.readouterr().out
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with alive(places):
            peer = await hub.peer()
            leaves = ["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!; exit 3 # secret"]
            await peer.send(fleet.command(fleet.envelope(own_id("executor-1"), leaves, requested_by="ada")))
            pid = int((await peer.first(CommandOutput)).data)
            await peer.first(CommandResult)
            os.kill(pid, signal.SIGKILL)
            assert main(arguments) == 0
    shown = capsys.readouterr().out
    ended = f"ended with exit code 3; 1 of its processes went on: {pid}"
    assert f"exec sh by ada: failed, {ended}  [{own_id('executor-1')}]" in shown
    assert "secret" not in shown


def test_started_without_an_enrolled_agent_it_says_why_it_does_not_start(places: Places) -> None:
    command = [sys.executable, "-m", "agent_client.execution.executor", str(places.state)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, timeout=20, check=False)
    assert b"config.json" in ran.stdout
    assert [path.name for path in places.state.iterdir()] == ["executor.lock"]
