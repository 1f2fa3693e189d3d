"""`up` as a person uses it: it ends with all it started, finds everything again, and says in a line what is wrong."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.servers.postgres import free_port
from tests.system.demo import UP, Demo
from tests.system.programs import Outcome, all_gone, outcome_of


async def refused(*arguments: str) -> str:
    """Return the one line with which `up` refuses."""
    outcome: Outcome = await outcome_of(*UP, *arguments)
    lines = outcome.complained.strip().splitlines()
    assert outcome.code == 1
    assert outcome.said == ""
    assert len(lines) == 1, outcome.complained
    assert lines[0].startswith("up: ")
    return lines[0]


async def test_it_ends_with_all_it_started_and_finds_everything_again(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "var")
    try:
        await demo.start(live=False)
        first = demo.written
        assert len(demo.pids) == 4  # up itself, the hub, its signer, the agent
        working = [await begun_job(demo), int((demo.folder / "agent/executor.lock").read_text())]
        agent = demo.agent.pid
        os.kill(demo.pids[0], signal.SIGINT)
        await all_gone([agent])
        assert await demo.stop(signal.SIGINT) == 0  # a person presses Ctrl-C once more
        await all_gone(working)
        said = await demo.said()
        assert first["password"] in said
        await demo.start(live=False)
        second = demo.written
        assert {key: first[key] for key in ("agentId", "password", "username", "dashboardUrl")} == {
            key: second[key] for key in ("agentId", "password", "username", "dashboardUrl")
        }
        working = [await begun_job(demo), int((demo.folder / "agent/executor.lock").read_text())]
        assert await demo.stop(signal.SIGHUP) == 0  # a person closes the window
        await all_gone(working)
        assert first["password"] not in await demo.said()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", demo.web_port))
    finally:
        await demo.close()


async def test_a_second_one_in_the_same_folder_says_so(demo: Demo) -> None:
    line = await refused("--data-dir", str(demo.folder), *ports())
    assert f"another `up` runs in {demo.folder}" in line


@pytest.mark.parametrize("flag", ["--web-port", "--agent-port"])
async def test_a_port_in_use_is_named(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "--agent-port" if flag == "--web-port" else "--web-port"
        line = await refused(flag, str(port), other, str(free_port()), "--data-dir", str(tmp_path / "var"))
    assert f"port {port}" in line
    assert flag in line


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = await refused("--data-dir", str(tmp_path / "file/var"), *ports())
    assert str(tmp_path / "file/var") in line
    assert "--data-dir" in line


async def test_a_damaged_demo_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("{")
    assert "demo.json is damaged" in await refused("--data-dir", str(tmp_path), *ports())


async def begun_job(demo: Demo) -> int:
    """Return the process of a job of this machine that does not end by itself soon."""
    async with demo.watching(await demo.sign_in()) as person:
        argv = ["sh", "-c", "echo $$; exec sleep 60"]
        await person.do("commands:create", agentId=demo.agent.agent_id, commandData={"argv": argv})
        return int((await person.take("agent:command:output"))["data"])


def ports() -> tuple[str, ...]:
    return ("--web-port", str(free_port()), "--agent-port", str(free_port()))
