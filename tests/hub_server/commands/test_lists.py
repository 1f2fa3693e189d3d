"""Lists of commands: their pages, and what each of them tells."""

from __future__ import annotations

import pytest

from hub_server.errors import NotFound
from protocol.commands import CommandsCancel, CommandsList
from protocol.enumerations import CommandStatus
from tests.hub_server.commands.builders import Hub


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
