"""Asks every operation of the matrix as somebody of each role, about things of their own organisation and another's."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from protocol.enumerations import Role
from protocol.frames import MetricsAck
from tests.integration.hub import RunningHub
from tests.integration.machine import Key, enroll, enroll_body, greeted, metrics, own_address, sample
from tests.integration.permissions import MATRIX, NAME, NOTHING, TOKEN, Json, Kind, Row
from tests.integration.person import Person, known_to, watching

OWN: Final = "own"
OTHER: Final = "other"
SPENT: Final = frozenset({"fresh agent", "fresh policy", "quarantined agent", "approval", "leaver"})
"""Kinds of which each successful operation uses one up."""
_numbers = itertools.count(1)


class Cell(Struct, frozen=True):
    """One answer: which operation, asked by whom, about whose thing."""

    operation: str
    role: Role
    about: str
    expected: str
    answered: str
    reveals: bool = False

    @property
    def is_right(self) -> bool:
        return self.expected == self.answered and not self.reveals


class Organisation:
    """An organisation with one thing of each kind; the name of each holds `mark`."""

    def __init__(self, hub: RunningHub, identifier: str, mark: str, admin: Person, folder: Path) -> None:
        self.id = identifier
        self.mark = mark
        self._hub = hub
        self._admin = admin
        self._folder = folder
        self._kept: dict[str, str] = {}

    async def thing(self, kind: Kind) -> str:
        """Return the id of a thing of this kind, made where there is none yet or one is used up each time."""
        if kind not in self._kept or kind in SPENT:
            self._kept[kind] = await self._made(kind)
        return self._kept[kind]

    def kept(self, kind: Kind) -> str:
        """Return the id of a thing of this kind for an operation that must not touch it."""
        return self._kept[kind]

    async def _made(self, kind: Kind) -> str:
        name, ask = f"{self.mark}-{next(_numbers)}", self._admin.do
        match kind:
            case "agent" | "fresh agent":
                return await self._agent(name)
            case "quarantined agent":
                agent_id = await self._agent(name)
                await ask("agents:quarantine", agentId=agent_id)
                return agent_id
            case "alert":
                alerts = await ask("alerts:list", agentId=await self.thing("agent"))
                return str(alerts["alerts"][0]["id"])
            case "command":
                agent_id = await self.thing("agent")
                made = await ask("commands:create", agentId=agent_id, commandData={"argv": [name]})
                return str(made["command"]["id"])
            case "policy" | "fresh policy":
                check = {"name": name, "fact": "agent.version", "operator": "equals", "value": "0"}
                terms = {"name": name, "tags": [name], "checks": [check]}
                return str((await ask("policies:create", terms=terms))["policy"]["id"])
            case "token":
                return str((await ask("tokens:create", site=name))["token"]["id"])
            case "organisation key":
                return str((await ask("organisation-keys:create", name=name))["key"]["id"])
            case "approval":
                return await self._approval(name)
            case "user" | "leaver":
                return await self._hub.add_user(name, Role.VIEWER, self.id)
            case "api key":
                return str((await ask("api-keys:create", name=name, role="viewer"))["key"]["id"])
            case "organisation":
                return self.id

    async def _agent(self, name: str) -> str:
        """Join a machine that has sent one sample, which raised an alert."""
        folder = self._folder / name
        folder.mkdir()
        identity = await enroll(self._hub, folder, name, await self._hub.mint(self.id))
        async with greeted(self._hub, identity) as agent:
            await known_to(self._admin, identity.agent_id)
            await agent.send(metrics(sample(1, cpu_percent=99.0)))
            await agent.take(MetricsAck)
            await self._admin.take("agent:alert", lambda data: data["agentId"] == identity.agent_id)
        return identity.agent_id

    async def _approval(self, name: str) -> str:
        made = await self._admin.do("tokens:create", approval=True)
        body = enroll_body(made["tokenText"], Key().csr_pem(), name)
        async with (
            self._hub.machine(own_address()) as session,
            session.post("/api/v1/agent/enroll", json=body) as answer,
        ):
            assert answer.status == 202, await answer.text()
        waiting = (await self._admin.do("approvals:list", limit=1000))["approvals"]
        return str(next(approval["id"] for approval in waiting if approval["hostname"] == name))


class World(Struct, frozen=True):
    """One hub with two organisations; in `own` there is somebody of each role."""

    hub: RunningHub
    own: Organisation
    other: Organisation

    async def forbidden(self, role: Role) -> tuple[list[Cell], list[str]]:
        """Ask what `role` must be refused, about either organisation; return the rows that changed by it, too."""
        cells = []
        async with _somebody(self.hub, role) as (someone, token):
            before = await self.hub.rows()
            for operation, row in MATRIX.items():
                for organisation in (self.own, self.other):
                    is_own = organisation is self.own
                    if role in row.who and (is_own or row.thing is None or row.other == "ok"):
                        continue
                    thing = organisation.kept(row.thing) if row.thing else ""
                    expected = row.other if role in row.who else "forbidden"
                    reply = await someone.ask(operation, body_of(row, thing, token))
                    cells.append(self._cell(operation, role, OWN if is_own else OTHER, expected, reply))
            changed = await self.hub.changed_since(before)
        return cells, changed

    async def allowed(self, role: Role) -> list[Cell]:
        """Ask all that `role` may do, in its own organisation."""
        cells = []
        async with _somebody(self.hub, role) as (someone, token):
            for operation, row in sorted(MATRIX.items(), key=lambda item: item[1].ends):
                if role in row.who:
                    thing = await self.own.thing(row.thing) if row.thing else ""
                    reply = await someone.ask(operation, body_of(row, thing, token))
                    cells.append(self._cell(operation, role, OWN, row.own, reply))
                    if row.thing is not None and row.other == "ok":
                        reply = await someone.ask(operation, body_of(row, await self.other.thing(row.thing), token))
                        cells.append(self._cell(operation, role, OTHER, row.other, reply))
        return cells

    def _cell(self, operation: str, role: Role, about: str, expected: str, reply: Json) -> Cell:
        row = MATRIX[operation]
        answered = "ok" if reply["ok"] else reply["error"]["code"]
        reveals = self.other.mark in msgspec.json.encode(reply).decode() and not row.shows_all and row.other != "ok"
        if expected == NOTHING and answered == "ok":
            answered = "ok" if _has_content(operation, reply) else NOTHING
        return Cell(operation, role, about, expected, answered, reveals)


def body_of(row: Row, thing: str, token: str) -> Json:
    """Return the request of `row`, about `thing`."""
    body: Json = {name: _filled(value, token) for name, value in row.body.items()}
    if row.field.endswith("[]"):
        body[row.field.removesuffix("[]")] = [thing]
    elif row.field:
        body[row.field] = thing
    return body


def _filled(value: Any, token: str) -> Any:
    """Return `value` with what NAME and TOKEN stand for, also inside of it."""
    match value:
        case _ if value == TOKEN:
            return token
        case _ if value == NAME:
            return f"new-{next(_numbers)}"
        case dict():
            return {name: _filled(inner, token) for name, inner in value.items()}
        case _:
            return value


def _has_content(operation: str, reply: Json) -> bool:
    """Tell whether a reply about a thing of another organisation shows anything of it."""
    if operation == "metrics:query":
        return any(series["timestamps"] for series in reply["series"])
    return any(isinstance(value, list) and value for value in reply.values()) or bool(reply.get("total"))


@asynccontextmanager
async def _somebody(hub: RunningHub, role: Role) -> AsyncIterator[tuple[Person, str]]:
    token = await hub.sign_in(f"some-{role.value}")
    async with watching(hub, token) as person:
        yield person, token


@asynccontextmanager
async def world(hub: RunningHub, folder: Path) -> AsyncIterator[World]:
    """Two organisations on a hub, for as long as the block runs."""
    mark = f"theirs{next(_numbers)}"
    other_id = await hub.add_organisation(f"{mark} Ltd")
    own_id = (await hub.on_machine()).organisation_id
    await hub.add_user(f"{mark}-admin", Role.ORG_ADMIN, other_id)
    for role in Role:
        await hub.add_user(f"some-{role.value}", role, own_id)
    async with (
        watching(hub, await hub.sign_in()) as ada,
        watching(hub, await hub.sign_in(f"{mark}-admin")) as stranger,
    ):
        own = Organisation(hub, own_id, "ours", ada, folder)
        other = Organisation(hub, other_id, mark, stranger, folder)
        for organisation in (own, other):
            for kind in get_args(Kind):
                await organisation.thing(kind)
        yield World(hub, own, other)


def wrong(cells: Sequence[Cell]) -> list[Any]:
    return [cell for cell in cells if not cell.is_right]
