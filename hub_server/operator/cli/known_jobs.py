"""The jobs that a hub knows: the newest of them, and the one that a person means."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from hub_server.operator.cli.outcome import Exit, Failed
from hub_server.operator.client import Operator
from hub_server.operator.errors import Refused
from hub_server.operator.jobs import Asking, Job
from hub_server.operator.machines import PAGE
from protocol.codes import ErrorCode
from protocol.commands import CommandsList, CommandsListReply, CommandView

ID_SHOWN_CHARS: Final = 8
"""The least of an id that names a job where its beginning is given."""
ID_PATH: Final = "$.commandId"


async def newest_jobs(hub: Asking, request: CommandsList, limit: int) -> tuple[list[CommandView], int]:
    """Return the newest `limit` jobs that are asked for, and how many there are in all.

    Where the last of a page is deleted meanwhile, the next one begins behind an earlier one of it, or anew, and those
    that are known, or newer than it, are left out.
    """
    found: dict[str, CommandView] = {}
    total: int | None = None
    page, back = structs.replace(request, limit=min(PAGE, limit)), 2
    while True:
        try:
            reply = await hub.ask("commands:list", page, CommandsListReply)
        except Refused as refusal:
            if page.after is None or (refusal.code, refusal.path) != (ErrorCode.NOT_FOUND, "$.after"):
                raise
            places = list(found)
            page, back = structs.replace(page, after=places[-back] if back <= len(places) else None), 2 * back
            continue
        oldest = min((view.created_at for view in found.values()), default=None)
        for view in reply.commands:
            if oldest is None or view.created_at <= oldest:
                found.setdefault(view.id, view)
        total = reply.total if total is None else total
        if len(found) >= limit or len(reply.commands) < page.limit:
            return list(found.values())[:limit], total
        page, back = structs.replace(page, after=reply.commands[-1].id), 2


async def job_called(hub: Operator, called: str) -> Job:
    """Return the job of this id, or the one among the newest PAGE whose id begins so.

    Raises Refused, or Failed where several begin so.
    """
    try:
        return await hub.job(called)
    except Refused as refusal:
        if refusal.code != ErrorCode.NOT_FOUND and refusal.path != ID_PATH:
            raise
        found = await _beginning_with(hub, called.lower()) if len(called) >= ID_SHOWN_CHARS else []
        if not found:
            raise Failed(f"there is no job {called!r}; `jtnt jobs` lists them", Exit.REFUSED) from refusal
    if len(found) > 1:
        raise Failed(f"{len(found)} jobs begin with {called}, say which: {', '.join(found)}", Exit.REFUSED)
    return await hub.job(found[0])


async def _beginning_with(hub: Asking, beginning: str) -> list[str]:
    listed, _ = await newest_jobs(hub, CommandsList(), PAGE)
    return [view.id for view in listed if view.id.startswith(beginning)]
