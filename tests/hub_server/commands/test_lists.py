"""Lists of commands: their pages, and what each of them tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import delete
from sqlmodel import col

from hub_server.commands.tables import CommandRow
from hub_server.errors import HubError, NotFound
from hub_server.gateway.faults import body_of
from hub_server.operator.cli import known_jobs
from hub_server.operator.errors import Refused
from hub_server.storage.engine import EVERY_ORGANISATION
from protocol.commands import CommandsCancel, CommandsList, CommandsListReply
from protocol.enumerations import CommandStatus
from tests.hub_server.commands.builders import Hub


class Asked:
    """A hub as `jtnt jobs` asks it, where jobs are deleted, and another is made, after each page."""

    def __init__(self, hub: Hub, agent_id: str, deleted: Iterator[list[str]]) -> None:
        self._hub = hub
        self._agent_id = agent_id
        self._deleted = deleted

    async def ask(self, operation: str, request: Any, reply_type: type[Any], *, deadline_seconds: float = 0) -> Any:
        assert (operation, reply_type, deadline_seconds) == ("commands:list", CommandsListReply, 0)
        try:
            reply = await self._hub.service.list(self._hub.principal, request)
        except HubError as error:
            raise Refused.of(body_of(error)) from error
        async with self._hub.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(delete(CommandRow).where(col(CommandRow.id).in_(next(self._deleted, []))))
        self._hub.clock.advance(1)
        await self._hub.create(self._agent_id)
        return reply

    def following(self, command_id: str, following: Any) -> AbstractContextManager[None]:
        raise NotImplementedError


@pytest.mark.parametrize("deleted", [[3, 2, 1], [0, 1, 2, 3], [3, 4, 5]])
async def test_jobs_are_listed_on_when_those_listed_last_are_deleted_meanwhile(
    hub: Hub, agent_id: str, monkeypatch: pytest.MonkeyPatch, deleted: list[int]
) -> None:
    monkeypatch.setattr(known_jobs, "PAGE", 4)
    views = []
    for number in range(10):
        views.append(await hub.create(agent_id))
        hub.clock.advance(number % 3 // 2)
    order = [view.id for view in (await hub.service.list(hub.principal, CommandsList())).commands]
    asked = Asked(hub, agent_id, iter([[order[place] for place in deleted]]))
    found, total = await known_jobs.newest_jobs(asked, CommandsList(), 100)
    assert [job.id for job in found] == [
        job_id for place, job_id in enumerate(order) if place < 4 or place not in deleted
    ]
    assert total == 10


async def test_the_pages_of_a_list_go_on_behind_the_command_that_was_last(hub: Hub, agent_id: str) -> None:
    """Three of each second, so that the time alone does not tell; what is made meanwhile shifts no page."""
    views = []
    for number in range(12):
        views.append(await hub.create(agent_id))
        hub.clock.advance(number % 3 // 2)
    for view in views[::2]:
        await hub.service.cancel(hub.principal, CommandsCancel(command_id=view.id))
    not_ended = {view.id for view in views[1::2]}
    for ended in (None, False):
        wanted = not_ended if ended is False else {view.id for view in views}
        made: set[str] = set()
        after: str | None = None
        seen: list[str] = []
        while page := (await hub.service.list(hub.principal, CommandsList(ended=ended, after=after, limit=5))).commands:
            seen += [view.id for view in page]
            after = seen[-1]
            hub.clock.advance(1)
            made.add((await hub.create(agent_id)).id)
        assert (len(seen), set(seen)) == (len(wanted), wanted)
        not_ended |= made
    over = await hub.service.list(hub.principal, CommandsList(ended=True))
    assert over.total == 6
    assert {view.status for view in over.commands} == {CommandStatus.CANCELLED}
    with pytest.raises(NotFound, match="'gone'"):
        await hub.service.list(hub.principal, CommandsList(after="gone"))


async def test_everybody_who_looks_at_a_command_sees_why_it_was_asked_for(hub: Hub, agent_id: str) -> None:
    view = await hub.create(agent_id, reason="the disk is full")
    other = await hub.restarted()
    assert (view.purpose, (await other.get(view.id)).purpose) == ("the disk is full", "the disk is full")
    [listed] = (await other.service.list(hub.principal, CommandsList())).commands
    assert listed.purpose == "the disk is full"
    assert (await hub.create(agent_id)).purpose == ""
