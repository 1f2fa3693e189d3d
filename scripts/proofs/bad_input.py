"""Wrong and hostile input against the running demo: a clear refusal each, and no row changed by any."""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import trustme
from socketio.exceptions import ConnectionError as NotConnected
from websockets.exceptions import InvalidHandshake

from protocol.codec import encode_text
from protocol.frames import Error, Refuse
from protocol.identity import EnrollmentToken, JoinString
from protocol.limits import FRAME_MAX_BYTES
from scripts.proofs.report import Report
from tests.integration.machine import (
    AgentSocket,
    Key,
    connected,
    enroll_body,
    heartbeat,
    hello,
    metrics,
    sample,
    tls_with,
)
from tests.integration.person import Person
from tests.system.demo import Demo
from tests.system.programs import RealAgent, enrolled

LIVE_TABLES: Final = frozenset(
    {"agent_presence", "agent_inventory", "received_ranges", "agent_alerts", "agent_reports"}
)
"""Tables that the live agents themselves write at all times."""
Say = Callable[[AgentSocket], Awaitable[None]]


class BadInput:
    """Speaks as one enrolled agent, as strangers, and as the signed-in administrator."""

    def __init__(self, demo: Demo, person: Person, agent: RealAgent, spent_token: str) -> None:
        self._demo = demo
        self._person = person
        self._agent = agent
        self._spent_token = spent_token
        self._root_pem = (agent.folder / "certs/ca-bundle.crt").read_text()

    async def show(self, report: Report) -> None:
        before = self._counts()
        for what, step in self._steps().items():
            await report.show(f"bad input: {what}", step)

        async def unchanged() -> str:
            after = self._counts()
            assert after == before, {name: (before[name], after[name]) for name in after if after[name] != before[name]}
            return f"{sum(after.values())} rows in {len(after)} tables before and after"

        await report.show("bad input: nothing was changed by any of it", unchanged)

    def _steps(self) -> Mapping[str, Callable[[], Awaitable[str]]]:
        pin = EnrollmentToken.parse(self._spent_token).pin
        hello_text = encode_text(hello())
        return {
            "a token that nobody made": lambda: self._token(EnrollmentToken.generate(pin).text, "unknown"),
            "a used token": lambda: self._token(self._spent_token, "used already"),
            "a token of another hub": lambda: self._token(EnrollmentToken.generate(bytes(16)).text, "another hub"),
            "no client certificate": self._no_certificate,
            "a foreign certificate": self._foreign_certificate,
            "a malformed frame": lambda: self._frames([hello_text, "{"], 4400),
            "a frame with a wrong field": lambda: self._frames(
                [hello_text, encode_text(metrics(sample(1))).replace('"seq":1', '"seq":"x"')], 4400, "$.samples[0].seq"
            ),
            "a frame too large": lambda: self._frames([hello_text, '"'.ljust(FRAME_MAX_BYTES, "x") + '"'], 4413),
            "a binary frame": lambda: self._frames([hello_text, b"{}"], 4400),
            "an unknown type (answered, the session goes on)": self._unknown_type,
            "no hello first": lambda: self._frames([encode_text(heartbeat())], 4408, "hello"),
            "no hello at all": lambda: self._frames([], 4408, "no hello within 5 s"),
            "another protocol version": lambda: self._frames([hello_text.replace("[1,1]", "[7,9]")], 4426, "protocol"),
            "a bad access token": self._bad_access_token,
            "an unknown operation": lambda: self._operation("agents:dance", {}, "unknown_operation"),
            "a wrong field of an operation": lambda: self._operation(
                "commands:create",
                {"agentId": self._agent.agent_id, "commandData": {"argv": ["a", 5]}},
                "invalid_request",
                "$.commandData.argv[1]",
            ),
            "a command to an unknown agent": lambda: self._operation(
                "commands:create", {"agentId": "nobody", "commandData": {"argv": ["a"]}}, "not_found", "$.agentId"
            ),
        }

    def _counts(self) -> dict[str, int]:
        with closing(sqlite3.connect(f"file:{self._demo.database}?mode=ro", uri=True, timeout=10)) as database:
            names = [
                row[0]
                for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                if row[0] not in LIVE_TABLES
            ]
            query = "SELECT count(*) FROM {}"
            return {name: database.execute(query.format(name)).fetchone()[0] for name in names}

    def _tls(self) -> ssl.SSLContext:
        certs = self._agent.folder / "certs"
        return tls_with(self._root_pem, certs / "client.crt", certs / "client.key")

    async def _token(self, token: str, words: str) -> str:
        url = f"https://localhost:{self._demo.agent_port}/api/v1/agent/enroll"
        body = enroll_body(token, Key().csr_pem())
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=body, ssl=tls_with(self._root_pem)) as answer,
        ):
            error = (await answer.json())["error"]
            assert answer.status == 401, (answer.status, error)
        assert words in error["message"], error
        return f"401 {error['code']}: {error['message']}"

    async def _no_certificate(self) -> str:
        url = self._demo.socket_url.replace("wss", "https")
        async with aiohttp.ClientSession() as session, session.get(url, ssl=tls_with(self._root_pem)) as answer:
            error = (await answer.json())["error"]
            assert answer.status == 401, (answer.status, error)
        return f"401 {error['code']}: {error['message']}"

    async def _foreign_certificate(self) -> str:
        context = tls_with(self._root_pem)
        trustme.CA().issue_cert("agent@example.com").configure_cert(context)
        try:
            async with connected(self._demo, context):
                raise AssertionError("let in with a foreign certificate")
        except (ssl.SSLError, ConnectionError, InvalidHandshake, EOFError) as refused:
            return f"handshake refused: {refused}"

    async def _frames(self, said: list[str | bytes], code: int, words: str = "") -> str:
        async with connected(self._demo, self._tls()) as agent:
            for text in said:
                await agent.send(text)
            ended, reason = await agent.ended()
            told = [frame.message for frame in agent.inbox.held() if isinstance(frame, Error | Refuse)]
        assert ended == code, (ended, reason)
        assert words in " ".join([reason, *told]), (reason, told)
        return f"closed {ended}: {(told or [reason])[-1]}"

    async def _unknown_type(self) -> str:
        async with connected(self._demo, self._tls()) as agent:
            await agent.greet()
            await agent.send('{"type":"dance"}')
            error = await agent.take(Error)
            await agent.send(heartbeat())
        return f"error {error.code}: {error.message}"

    async def _bad_access_token(self) -> str:
        stranger = Person()
        with suppress(NotConnected):
            await stranger.connect(self._demo.url, {"token": "a.b.c"})
            raise AssertionError("let in")
        assert stranger.refusal["message"] == "unauthenticated", stranger.refusal
        return str(stranger.refusal["data"]["message"])

    async def _operation(self, name: str, body: Any, code: str, path: str | None = None) -> str:
        reply = await self._person.ask(name, body)
        assert not reply["ok"], reply
        error = reply["error"]
        assert (error["code"], error.get("path")) == (code, path), error
        return f"{error['code']} {path or ''}: {error['message']}"


async def show(report: Report, demo: Demo, token: str, folder: Path) -> None:
    """Show every line; an agent of its own joins for it and leaves afterwards."""
    async with demo.watching(token) as person:
        made = await person.do("tokens:create")
        async with enrolled(folder / "bad-input", made["joinString"]) as agent:
            spent = JoinString.parse(made["joinString"]).token.text
            await BadInput(demo, person, agent, spent).show(report)
            await person.do("agents:delete", agentId=agent.agent_id)
