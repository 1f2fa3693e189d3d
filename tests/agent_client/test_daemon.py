"""The programs as people and service managers run them: real processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.cli import main
from agent_client.daemon import SELDOM_USED, UNUSED
from agent_client.paths import Places
from agent_client.version import AGENT_VERSION
from protocol.enumerations import CommandReason, DesiredName, GoodbyeReason
from protocol.frames import CommandOutput, CommandResult, Desired, DesiredApplied, Event, Goodbye, Hello, Metrics
from tests.agent_client.executors import end_executor
from tests.agent_client.fleet import AGENT, Fleet, own_id
from tests.agent_client.hub import Hub, running
from tests.agent_client.test_process import gone

ROOT = Path(__file__).parents[2]
DAEMON = [sys.executable, "-m", "agent_client.daemon"]
WAIT_SECONDS = 60.0
HEAVY = {
    "cryptography",
    "argparse",
    "urllib.request",
    "http.client",
    "email",
    "importlib.metadata",
    "zipfile",
    "pydantic",
}
OF_OTHER_PROCESSES = (
    "agent_client.enrollment",
    "agent_client.execution.actions",
    "agent_client.execution.jobs",
    "agent_client.execution.verification",
    "agent_client.host",
    "agent_client.inventory.linux",
    "agent_client.plugins",
    "agent_client.security.linux",
    "protocol.inventory",
    "tomllib",
)


class Daemon:
    """A running jtnt-agentd and what it wrote to its standard output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def says(self, message: str) -> dict[str, Any]:
        """Read its log until `message` comes."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                raw = await self.process.stdout.readline()
                assert raw, f"ended without saying {message!r}: {self.lines}"
                self.lines.append(json.loads(raw))
                if self.lines[-1]["message"] == message:
                    return self.lines[-1]

    async def ended(self) -> int:
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            async for raw in self.process.stdout:
                self.lines.append(json.loads(raw))
            return await self.process.wait()


@asynccontextmanager
async def daemon_of(places: Places, **environment: str) -> AsyncIterator[Daemon]:
    process = await asyncio.create_subprocess_exec(
        *DAEMON,
        "--data-dir",
        str(places.state),
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "error"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    daemon = Daemon(process)
    try:
        yield daemon
    finally:
        if process.returncode is None:
            process.kill()
        _, errors = await process.communicate()
        end_executor(places)
        assert errors == b"", errors.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_daemon_orderly(
    fleet: Fleet, places: Places, tmp_path: Path, number: signal.Signals
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as daemon:
            peer = await hub.peer()
            await peer.first(Metrics)
            daemon.process.send_signal(number)
            assert (await peer.first(Goodbye)).reason is GoodbyeReason.OPERATOR
            assert await daemon.ended() == 0
    assert {line["agent_id"] for line in daemon.lines} == {AGENT}
    assert [line["message"] for line in daemon.lines] == [
        "agent starting",
        "session up",
        "agent stopping",
        "agent stopped",
    ]


async def test_a_job_survives_the_killed_daemon_and_its_true_result_is_told_by_the_next_and_no_sample_is_lost(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    hub = Hub(acknowledges=False)
    async with running(fleet, tmp_path, hub):
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as daemon:
            peer = await hub.peer(1)
            await peer.first(Metrics)
            script = f"echo before; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo after; exit 3"
            await peer.send(fleet.command(fleet.envelope(own_id("daemon-1"), ["sh", "-c", script])))
            await peer.first(CommandOutput)
            daemon.process.kill()
            await daemon.process.wait()
            (tmp_path / "go").touch()
            hub.acknowledges = True
            async with daemon_of(places):
                second = await hub.peer(2)
                result = await second.first(CommandResult)
                assert (result.reason, result.exit_code) == (CommandReason.EXIT_CODE, 3)
                assert hub.output[own_id("daemon-1"), "stdout"] == b"before\nafter\n"
                again = await second.first(Metrics)
                assert again.samples[0].seq == peer.all(Metrics)[0].samples[0].seq
                assert again.epoch == peer.all(Metrics)[0].epoch


async def test_a_job_whose_executor_is_killed_is_interrupted_and_nothing_of_it_goes_on(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    """What it started is found by its mark, though it left its group, and nobody waits for it any more."""
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places):
            peer = await hub.peer()
            script = "setsid sleep 60 & echo $! $$; wait"
            await peer.send(fleet.command(fleet.envelope(own_id("daemon-1"), ["sh", "-c", script])))
            pids = [int(word) for word in (await peer.first(CommandOutput)).data.split()]
            end_executor(places, signal.SIGKILL)
            result = await peer.first(CommandResult)
            assert result.reason is CommandReason.INTERRUPTED
            assert "2 processes" in result.result
            assert all([await gone(pid) for pid in pids])
            assert len(peer.all(CommandResult)) == 1


async def test_a_second_daemon_in_the_same_folder_gets_one_clear_line(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as first:
            await hub.peer(1)
            async with daemon_of(places) as second:
                assert await second.ended() == 75
            assert len(second.lines) == 1
            assert second.lines[0]["level"] == "fatal"
            assert f"process {first.process.pid}" in second.lines[0]["message"]


async def test_a_machine_that_is_not_enrolled_is_told_how_to(places: Places) -> None:
    async with daemon_of(places) as daemon:
        assert await daemon.ended() == 78
    assert [line["level"] for line in daemon.lines] == ["fatal"]
    assert "jtnt-agent enroll" in daemon.lines[0]["message"]


async def test_a_wrong_key_in_the_configuration_is_named_and_nothing_starts(fleet: Fleet, places: Places) -> None:
    fleet.enroll_by_hand(places, 1)
    path = places.config / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hartbeat": 3}))
    async with daemon_of(places) as daemon:
        assert await daemon.ended() == 78
    assert "hartbeat" in daemon.lines[0]["message"]


async def test_the_configuration_is_reloaded_by_a_signal(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as daemon:
            await hub.peer(1)
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.says("configuration reloaded")
            (places.config / "config.json").write_text("{")
            daemon.process.send_signal(signal.SIGHUP)
            assert "not JSON" in (await daemon.says("configuration not reloaded, the old one stays"))["reason"]
            assert len(hub.peers) == 1


async def test_another_identity_is_taken_up_by_the_running_daemon(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as daemon:
            first = await hub.peer(1)
            await first.first(Metrics)
            fleet.enroll_by_hand(places, hub.port, agent_id="agent-2")
            daemon.process.send_signal(signal.SIGHUP)
            assert (await first.first(Goodbye)).reason is GoodbyeReason.RESTART
            second = await hub.peer(2)
            hellos = [peer.all(Hello)[0] for peer in (first, second)]
            assert hellos[0].streams.live.epoch != hellos[1].streams.live.epoch
            daemon.process.terminate()
            assert await daemon.ended() == 0
            assert daemon.lines[-1]["agent_id"] == "agent-2"


async def test_a_daemon_that_begins_anew_and_is_told_to_stop_stops(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places) as daemon:
            await hub.peer()
            fleet.enroll_by_hand(places, hub.port, agent_id="agent-2")
            for number in (signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
                daemon.process.send_signal(number)
            assert await daemon.ended() == 0
    assert [line["message"] for line in daemon.lines].count("agent starting") == 1


async def test_the_log_holds_no_secret_and_no_output(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, log_level="debug")
        async with daemon_of(places) as daemon:
            peer = await hub.peer()
            job = fleet.envelope(
                own_id("daemon-1"), ["sh", "-c", "echo out-$WORD"], environment={"WORD": "hidden-word"}
            )
            await peer.send(fleet.command(job))
            await peer.first(CommandResult)
            daemon.process.terminate()
            assert await daemon.ended() == 0
    written = json.dumps(daemon.lines)
    assert "job accepted" in written
    assert hub.output[own_id("daemon-1"), "stdout"] == b"out-hidden-word\n"
    assert "hidden-word" not in written
    assert "PRIVATE" not in written


async def test_status_is_asked_of_the_running_daemon(
    fleet: Fleet, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port, days=12.5)
        async with daemon_of(places) as daemon:
            await (await hub.peer()).first(Metrics)
            assert await asyncio.to_thread(main, ["status", "--data-dir", str(places.state)]) == 0
            shown = capsys.readouterr().out
            assert await asyncio.to_thread(main, ["status", "--json", "--data-dir", str(places.state)]) == 0
            status = json.loads(capsys.readouterr().out)
            assert await asyncio.to_thread(main, ["status", "--prometheus", "--data-dir", str(places.state)]) == 0
            exposed = capsys.readouterr().out.splitlines()
            assert places.control_socket.stat().st_mode & 0o777 == 0o600
            daemon.process.terminate()
            await daemon.ended()
            assert not places.control_socket.exists()
    assert re.search(r"connection +connected for .*session-1", shown)
    assert re.search(r"certificate +12.5 days left; renewed by itself in \d\.\d days", shown)
    assert re.search(r"trust +document version 1", shown)
    assert (status["agent_id"], status["link"], status["pid"]) == (AGENT, "connected", daemon.process.pid)
    assert status["last_heartbeat_ms"]
    assert {"jtnt_agent_up 1", "jtnt_agent_connected 1", "jtnt_agent_reconnects_total 0"} <= set(exposed)
    assert status["spool"]["dropped"] == {}


def test_status_without_a_daemon_says_so_and_what_the_files_tell(
    fleet: Fleet, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["status", "--data-dir", str(places.state)]
    assert main(arguments) == 3
    assert "not enrolled" in capsys.readouterr().out
    fleet.enroll_by_hand(places, 3001, days=3)
    assert main(arguments) == 3
    shown = capsys.readouterr().out
    assert "NOT RUNNING" in shown
    assert AGENT in shown
    assert "3.0 days left" in shown
    assert "document version 1" in shown
    assert main([*arguments, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert (report["running"], report["enrolled"], report["trust_version"]) == (False, True, 1)
    assert main([*arguments, "--prometheus"]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "jtnt_agent_up 0"


async def test_a_folder_with_a_very_long_name_has_its_socket_too(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = Places.inside(tmp_path / ("long" * 30) / "agent")
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        async with daemon_of(places):
            await (await hub.peer()).first(Metrics)
            assert await asyncio.to_thread(main, ["status", "--data-dir", str(places.state)]) == 0
    assert "running" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has mapped is read from /proc")
async def test_a_renewal_and_a_trust_document_leave_no_library_behind_in_the_daemon(
    fleet: Fleet, places: Places, tmp_path: Path
) -> None:
    newer = msgspec.to_builtins(fleet.trust(version=2), str_keys=True)
    async with running(fleet, tmp_path, Hub(certify=fleet.certify)) as hub:
        fleet.enroll_by_hand(places, hub.port, days=5, age_days=25)
        async with daemon_of(places) as daemon:
            peer = await hub.peer(2)
            await peer.send(Desired(name=DesiredName.TRUST, hash="t2", body=newer))
            await peer.first(DesiredApplied)
            mapped = await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/maps").read_text)
            said = await daemon.says("session handed over")
            assert said["session_id"] == "session-2"
    assert "_ssl" in mapped
    assert "cryptography" not in mapped


async def test_the_daemon_does_not_load_what_it_seldom_needs(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    """What Python imports is written to standard error where PYTHONPROFILEIMPORTTIME asks for it."""
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        process = await asyncio.create_subprocess_exec(
            *DAEMON,
            "--data-dir",
            str(places.state),
            cwd=ROOT,
            env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        await (await hub.peer()).first(Metrics)
        process.terminate()
        _, errors = await process.communicate()
    loaded = {line.rpartition("|")[2].strip() for line in errors.decode().splitlines()}
    assert "websockets.asyncio.client" in loaded
    assert loaded & (HEAVY | {*UNUSED, *SELDOM_USED, "ast", "dis"}) == set()
    assert not {name for name in loaded if name.startswith(("cryptography", "email.", *OF_OTHER_PROCESSES))}


async def test_a_damaged_spool_is_replaced_and_said(fleet: Fleet, places: Places, tmp_path: Path) -> None:
    async with running(fleet, tmp_path, Hub()) as hub:
        fleet.enroll_by_hand(places, hub.port)
        places.database.write_bytes(b"damaged" * 10_000)
        async with daemon_of(places) as daemon:
            event = await (await hub.peer()).first(Event)
            assert event.kind == "spool_damaged"
            assert (await (await hub.peer()).several(2, Event))[1].kind == "started"
            daemon.process.terminate()
            assert await daemon.ended() == 0
    assert (places.state / "spool.damaged").exists()


@pytest.mark.parametrize("arguments", [["--bogus"], ["--data-dir"], ["a", "b", "c"]])
def test_wrong_arguments_show_the_usage(arguments: list[str]) -> None:
    ran = subprocess.run([*DAEMON, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert ran.returncode == 64
    assert "usage: jtnt-agentd" in ran.stderr


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == AGENT_VERSION
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"jtnt-agent {AGENT_VERSION}\n"


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "jtnt://hub.example.com" in capsys.readouterr().out
