"""Finding a machine by what a person calls it."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

from msgspec import structs

from hub_server.operator.errors import OperatorError, Refused
from hub_server.operator.jobs import Asking
from protocol.codes import ErrorCode
from protocol.events import AgentSummary
from protocol.operations import AgentsGet, AgentsGetReply, AgentsList, AgentsListReply
from protocol.requests import AgentFilter

PAGE: Final = 1000
SUGGESTED_MAX: Final = 5
NAME_MAX_CHARS: Final = 128
ID_SHOWN_CHARS: Final = 8
ID_BEGINNING: Final = re.compile(r"[0-9a-f]{8}[0-9a-f-]*")


class NoSuchMachine(OperatorError):
    """No machine has this id, name or host name."""


class AmbiguousMachine(OperatorError):
    """Several have it; `machines` are they."""

    def __init__(self, message: str, machines: list[AgentSummary]) -> None:
        super().__init__(message)
        self.machines = machines


async def machines_in(hub: Asking, request: AgentsList) -> AsyncIterator[AgentsListReply]:
    """Yield the pages of what passes the filter, until all is there."""
    offset = 0
    while True:
        page = structs.replace(request, limit=PAGE, offset=offset)
        reply = await hub.ask("agents:list", page, AgentsListReply)
        yield reply
        offset += len(reply.agents)
        if not reply.agents or offset >= reply.total:
            return


async def machine_called(hub: Asking, called: str) -> AgentSummary:
    """Return the machine of this id, name or host name, or the one whose id begins so; a name goes first.

    Raises NoSuchMachine or AmbiguousMachine, which say what there is, and what `hub.ask` raises.
    """
    by_id = await _machine_of_id(hub, called)
    if by_id is not None:
        return by_id
    request = AgentsList(filter=AgentFilter(text=called[:NAME_MAX_CHARS]))
    found = [agent async for reply in machines_in(hub, request) for agent in reply.agents]
    wanted = called.casefold()
    named = [agent for agent in found if agent.name.casefold() == wanted]
    matching = named or [agent for agent in found if agent.hostname.casefold() == wanted]
    if not matching and ID_BEGINNING.fullmatch(wanted):
        listed = [agent async for reply in machines_in(hub, AgentsList()) for agent in reply.agents]
        matching = [agent for agent in listed if agent.id.startswith(wanted)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        which = "; ".join(
            f"{agent.id} ({agent.name}, {agent.status}, {f'site {agent.site}' if agent.site else 'no site'})"
            for agent in matching
        )
        raise AmbiguousMachine(f"{len(matching)} machines are called {called}, say which by its id: {which}", matching)
    similar = ", ".join(agent.name for agent in found[:SUGGESTED_MAX])
    hint = f"; did you mean one of: {similar}?" if similar else "; `jtnt agents` lists them"
    raise NoSuchMachine(f"there is no machine called {called}{hint}")


def told_apart(names: Mapping[str, str]) -> Mapping[str, str]:
    """Return by id what each is called beside the others: its name, and where several have that the start of its id."""
    shared = Counter(names.values())
    return {id_: name if shared[name] == 1 else f"{name} ({id_[:ID_SHOWN_CHARS]})" for id_, name in names.items()}


async def names_of(hub: Asking, agent_ids: Iterable[str]) -> Mapping[str, str]:
    """Return names by id; a machine that is gone, or may not be read, has none. Raises what `hub.ask` raises.

    The hub is asked once for PAGE of them.
    """
    names: dict[str, str] = {}
    distinct = list(dict.fromkeys(agent_ids))
    for first in range(0, len(distinct), PAGE):
        request = AgentsList(filter=AgentFilter(ids=distinct[first : first + PAGE]), limit=PAGE)
        try:
            reply = await hub.ask("agents:list", request, AgentsListReply)
        except Refused as error:
            if error.code != ErrorCode.FORBIDDEN:
                raise
        else:
            names |= {agent.id: agent.name for agent in reply.agents}
    return names


async def _machine_of_id(hub: Asking, called: str) -> AgentSummary | None:
    try:
        uuid.UUID(called)
        return (await hub.ask("agents:get", AgentsGet(agent_id=called), AgentsGetReply)).agent
    except ValueError:
        return None
    except Refused as error:
        if error.code == ErrorCode.NOT_FOUND:
            return None
        raise
