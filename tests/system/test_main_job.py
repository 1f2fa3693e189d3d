"""The whole of it with real processes: live values, a command, ends with -9, a second machine."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from math import isfinite
from pathlib import Path

import pytest

from scripts.proofs.seed_example import seed_example
from tests.integration.person import Json, Person, known_to
from tests.system.demo import Demo
from tests.system.programs import ROOT, RealAgent, enrolled, kill
from tests.system.samples import compared


def of(agent_id: str) -> Callable[[Json], bool]:
    return lambda data: data["agentId"] == agent_id


async def test_up_writes_down_what_a_person_needs(demo: Demo) -> None:
    assert stat.S_IMODE((demo.folder / "demo.json").stat().st_mode) == 0o600
    written = demo.written
    assert written.keys() == {"dashboardUrl", "username", "password", "agentId", "joinString"}
    assert written["dashboardUrl"] == demo.url
    assert written["agentId"] == demo.agent.agent_id
    assert written["joinString"].startswith(f"jtnt://localhost:{demo.agent_port}/#jtnte_")


async def test_live_values_of_this_machine_are_there(demo: Demo) -> None:
    """How soon, `prove main-job` says."""
    assert isfinite(demo.live_after_seconds)


async def test_a_command_shows_its_output(demo: Demo, person: Person) -> None:
    created = await person.do("commands:create", agentId=demo.agent.agent_id, commandData={"argv": ["uname", "-a"]})
    result = await person.take("agent:command:result", of_command(created))
    assert (result["status"], result["exitCode"]) == ("COMPLETED", 0)
    output = await person.take("agent:command:output", of_command(created))
    assert output["data"].split()[:2] == list(os.uname()[:2])


async def test_the_seeds_dashboard_example_works_as_written(demo: Demo) -> None:
    assert "Current agents:" in await seed_example(demo, ROOT / "static")


async def test_an_agent_killed_is_offline_with_a_reason_and_comes_back(demo: Demo, person: Person) -> None:
    agent_id, killed = demo.agent.agent_id, demo.agent.pid
    kill(killed)
    gone = await person.take("agent:disconnected", of(agent_id))
    assert gone["reason"] == "connection_lost"
    offline = await person.take("agents:status", lambda status: shows(status, agent_id, "OFFLINE"))
    assert offline["counts"]["offline"] >= 1
    await person.take("agent:connected", of(agent_id))
    assert demo.agent.pid != killed
    await person.take("agent:metrics", of(agent_id))


async def test_a_killed_hub_loses_nothing_and_stores_nothing_twice(demo: Demo, demo_token: str) -> None:
    agent_id = demo.agent.agent_id
    for _ in range(2):
        async with demo.watching(demo_token) as before:
            await before.take("agent:metrics", of(agent_id))
            await demo.kill_hub()  # what this event told of may not be committed yet
        async with demo.watching(demo_token) as after:
            await after.take("agents:status", lambda status: not status["delta"])
            await after.take("agent:metrics", of(agent_id))
            assert not after.held("agent:disconnected", of(agent_id))
    comparison = await compared(demo.agent.spool, demo.folder, agent_id)
    assert comparison.is_exact, comparison
    assert comparison.stored >= 2


async def test_a_second_machine_joins_by_the_join_string(demo: Demo, person: Person, tmp_path: Path) -> None:
    join_string = demo.written["joinString"]
    async with enrolled(tmp_path / "second", join_string) as second:
        await known_to(person, second.agent_id)
        await second.start()
        await person.take("agent:metrics", of(second.agent_id))
        listed = await person.do("agents:list")
        assert {demo.agent.agent_id, second.agent_id} <= {
            agent["id"] for agent in listed["agents"] if agent["status"] == "ACTIVE"
        }
        again = await RealAgent(tmp_path / "third").enroll(join_string)
        assert again.code == 6
        assert "used already" in again.complained
        assert not (tmp_path / "third/config.json").exists()
        await second.stop()
        gone = await person.take("agent:disconnected", of(second.agent_id))
        assert gone["reason"] == "operator"


@pytest.mark.parametrize("forgery", ["another order", "another command's order", "no signature"])
async def test_an_order_altered_in_the_database_is_refused_by_the_agent(
    demo: Demo, person: Person, tmp_path: Path, forgery: str
) -> None:
    token = await person.do("tokens:create")
    trace = tmp_path / "trace"
    async with enrolled(tmp_path / "second", token["joinString"]) as second:
        await known_to(person, second.agent_id)
        ids = []
        for argv in (["true"], ["touch", str(trace)]):
            created = await person.do("commands:create", agentId=second.agent_id, commandData={"argv": argv})
            ids.append(created["command"]["id"])
        with closing(sqlite3.connect(demo.database, timeout=10)) as database, database:
            forge(database, forgery, ids, trace)
        await second.start()
        result = await person.take("agent:command:result", lambda data: data["commandId"] == ids[0])
        assert (result["status"], result["reason"]) == ("FAILED", "denied_by_agent")
        assert not trace.exists()


def forge(database: sqlite3.Connection, forgery: str, ids: list[str], trace: Path) -> None:
    """Alter the first command; the second one, which touches the trace, is taken away."""
    harmless, touching = ids
    match forgery:
        case "another order":
            altered = "CAST(replace(CAST(payload AS TEXT), '[\"true\"]', ?) AS BLOB)"
            statement = f"UPDATE agent_commands SET payload = {altered} WHERE id = ?"  # noqa: S608
            done = database.execute(statement, (f'["touch","{trace}"]', harmless))
        case "another command's order":
            statement = (
                "UPDATE agent_commands SET (payload, signatures) = "
                "(SELECT payload, signatures FROM agent_commands WHERE id = ?) WHERE id = ?"
            )
            done = database.execute(statement, (touching, harmless))
        case _:
            done = database.execute("UPDATE agent_commands SET signatures = '[]' WHERE id = ?", (harmless,))
    assert done.rowcount == 1
    database.execute("UPDATE agent_commands SET status = 'CANCELLED' WHERE id = ?", (touching,))


def of_command(created: Json) -> Callable[[Json], bool]:
    return lambda data: data["commandId"] == created["command"]["id"]


def shows(status: Json, agent_id: str, expected: str) -> bool:
    return any(agent["id"] == agent_id and agent["status"] == expected for agent in status["agents"])
