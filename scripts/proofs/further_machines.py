"""A second machine by the join string, hubs that are not ours, and orders that were altered in the database."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from protocol.identity import EnrollmentToken, JoinString
from scripts.proofs.report import Report
from tests.integration.person import Json, known_to
from tests.system.demo import Demo
from tests.system.impostor import listening, own_bundle
from tests.system.programs import RealAgent, enrolled

WRONG_HUB = 5
REFUSED = 6


class FurtherMachines:
    def __init__(self, demo: Demo, token: str, folder: Path) -> None:
        self._demo = demo
        self._token = token
        self._folder = folder

    async def show(self, report: Report) -> None:
        await report.show("a second agent joins by joinString from another folder and is live", self._joins)
        await report.show("its used token does not work again", self._again)
        await report.show("wrong pin: the agent refuses before it sends the token", self._wrong_pin)
        await report.show("an order altered in the database: the agent refuses, nothing ran", self._altered)

    async def _joins(self) -> str:
        started = time.monotonic()
        join_string = self._demo.written["joinString"]
        async with (
            self._demo.watching(self._token) as person,
            enrolled(self._folder / "second", join_string) as second,
        ):
            await second.start()
            await person.take("agent:metrics", lambda data: data["agentId"] == second.agent_id)
            seconds = time.monotonic() - started
            await second.stop()
            gone = await person.take("agent:disconnected", lambda data: data["agentId"] == second.agent_id)
        return f"live {seconds:.1f} s after enroll began; ended as {gone['reason']!r}"

    async def _again(self) -> str:
        third = RealAgent(self._folder / "third")
        outcome = await third.enroll(self._demo.written["joinString"])
        assert outcome.code == REFUSED, outcome
        assert not (third.folder / "config.json").exists()
        return outcome.complained.strip()

    async def _wrong_pin(self) -> str:
        made = JoinString.parse(self._demo.written["joinString"]).token
        token = EnrollmentToken.generate(made.pin)
        async with listening(own_bundle()) as impostor:
            agent = RealAgent(self._folder / "misled")
            outcome = await agent.enroll("--token", token.text, "--hub", f"https://localhost:{impostor.port}")
        assert outcome.code == WRONG_HUB, outcome
        assert impostor.heard, "the agent never asked"
        assert token.text.encode() not in impostor.heard
        assert b"POST" not in impostor.heard
        return f"{len(impostor.heard)} bytes reached the impostor, no token; {outcome.complained.strip()}"

    async def _altered(self) -> str:
        trace = self._folder / "trace"
        async with self._demo.watching(self._token) as person:
            made = await person.do("tokens:create")
            async with enrolled(self._folder / "altered", made["joinString"]) as agent:
                await known_to(person, agent.agent_id)
                data = {"argv": ["touch", "harmless"]}
                created = await person.do("commands:create", agentId=agent.agent_id, commandData=data)
                command_id = created["command"]["id"]
                await asyncio.to_thread(alter, self._demo.database, command_id, trace)
                await agent.start()
                result: Json = await person.take("agent:command:result", lambda heard: heard["commandId"] == command_id)
            await person.do("agents:delete", agentId=agent.agent_id)
        assert (result["status"], result["reason"]) == ("FAILED", "denied_by_agent"), result
        assert not trace.exists(), "the altered order ran"
        return f"{result['reason']}: {result['result']}"


def alter(database: Path, command_id: str, trace: Path) -> None:
    """Put another file into the signed order of `command_id`: one that shows whether it ran."""
    altered = "CAST(replace(CAST(payload AS TEXT), '\"harmless\"', ?) AS BLOB)"
    statement = f"UPDATE agent_commands SET payload = {altered} WHERE id = ?"  # noqa: S608  no word of it is a person's
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        assert connection.execute(statement, (f'"{trace}"', command_id)).rowcount == 1
