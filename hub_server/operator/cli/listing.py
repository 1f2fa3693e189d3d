"""`jtnt agents`, `jobs` and `job`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeVar

from hub_server.operator.cli.job_table import job_lines, summary_of
from hub_server.operator.cli.known_jobs import job_called, newest_jobs
from hub_server.operator.cli.outcome import Exit, Failed, cut_of
from hub_server.operator.cli.printing import json_text, own_streams, text_of
from hub_server.operator.cli.session import connected
from hub_server.operator.client import Operator
from hub_server.operator.jobs import ENDED, Job
from hub_server.operator.machines import machine_called, machines_in, names_of, told_apart
from hub_server.operator.output import chunk_of
from hub_server.terminal.columns import print_columns, visible
from protocol.commands import CommandsList, CommandsOutput, CommandsOutputReply, CommandView
from protocol.enumerations import AgentStatus, CommandStatus, OutputStream
from protocol.events import AgentSummary
from protocol.operations import AgentsList
from protocol.requests import AgentFilter

W = TypeVar("W", bound=Enum)
JOBS_MAX: Final = 100_000
ELSEWHERE: Final = (100, 24)
"""Columns and lines of what is no terminal."""
NOTHING: Final = "-"


async def agents(options: argparse.Namespace) -> int:
    wanted = AgentFilter(
        text=options.text,
        status=[_word(AgentStatus, status, "--status") for status in options.status],
        tags=options.tag,
        site=options.site,
    )
    async with connected(options) as hub:
        pages = [page async for page in machines_in(hub, AgentsList(filter=wanted))]
    found = [agent for page in pages for agent in page.agents]
    if options.as_json:
        _print_json({"agents": found, "total": pages[-1].total, "counts": pages[-1].counts})
    elif not found:
        print("No machine is like this." if wanted != AgentFilter() else "There are no machines yet.")
    else:
        titles = ("NAME", "STATUS", "REASON", "SITE", "TAGS", "VERSION", "ID")
        print_columns([titles, *(_line_of_agent(agent) for agent in found)])
    return Exit.DONE


async def jobs(options: argparse.Namespace) -> int:
    if not 1 <= options.limit <= JOBS_MAX:
        raise Failed(f"--limit is from 1 to {JOBS_MAX}", Exit.USAGE)
    if options.job is not None:
        return await job(options)
    status = None if options.status is None else _word(CommandStatus, options.status, "--status")
    async with connected(options) as hub:
        agent_id = None if options.agent is None else (await machine_called(hub, options.agent)).id
        found, total = await newest_jobs(hub, CommandsList(agent_id=agent_id, status=status), options.limit)
        agent_ids = {} if options.as_json else {each.agent_id: each.agent_id for each in found}
        machines = told_apart({**agent_ids, **await names_of(hub, agent_ids)})
    if options.as_json:
        _print_json({"commands": found, "total": total})
    elif not found:
        print("There are no jobs like this.")
    else:
        print("\n".join(job_lines(found, machines, shutil.get_terminal_size(ELSEWHERE).columns)))
        if len(found) < total:
            print(f"jtnt: the newest {len(found)} of {total}; --limit N lists more", file=sys.stderr)
    return Exit.DONE


async def job(options: argparse.Namespace) -> int:
    async with connected(options) as hub:
        found = await job_called(hub, options.job)
        names = await names_of(hub, [found.agent_id])
        kept = {stream: await _kept(hub, found, stream) for stream in OutputStream} if options.output else {}
    if options.as_json:
        shown = {"output": {stream: text_of(data) for stream, data in kept.items()}} if options.output else {}
        _print_json({"command": found.view, **shown})
    elif options.output:
        streams = own_streams(raw=options.raw)
        for stream, data in kept.items():
            await streams.put(stream, data)
        await streams.end(found.view)
    else:
        for title, value in _details_of(found.view, names.get(found.agent_id, found.agent_id)):
            print(f"{title:<12} {visible(value)}")
    return Exit.DONE


async def _kept(hub: Operator, found: Job, stream: OutputStream) -> bytes:
    """Return what the hub has of a stream now."""
    pages: list[bytes] = []
    offset, is_more = 0, True
    while is_more:
        request = CommandsOutput(command_id=found.id, stream=stream, offset=offset)
        reply = await hub.ask("commands:output", request, CommandsOutputReply)
        pages.append(chunk_of(reply).data)
        is_more = not reply.complete and reply.next_offset > offset
        offset = reply.next_offset
    return b"".join(pages)


def _line_of_agent(agent: AgentSummary) -> tuple[str, ...]:
    return (
        agent.name,
        agent.status.value,
        agent.status_reason or NOTHING,
        agent.site or NOTHING,
        ",".join(agent.tags) or NOTHING,
        agent.agent_version,
        agent.id,
    )


def _details_of(view: CommandView, machine: str) -> list[tuple[str, str]]:
    sizes = ", ".join(f"{stream} {view.output_bytes.get(stream, 0)}" for stream in OutputStream)
    status = view.status.value + (f" ({view.reason})" if view.reason else "")
    return [
        ("Job", view.id),
        ("Machine", f"{machine} ({view.agent_id})"),
        ("What", summary_of(view)),
        ("Why", view.purpose or NOTHING),
        ("Status", f"{status}, asked to end" if view.cancel_requested and view.status not in ENDED else status),
        ("Exit code", NOTHING if view.exit_code is None else str(view.exit_code)),
        ("Result", view.result or NOTHING),
        ("May run for", NOTHING if view.timeout_sec is None else f"{view.timeout_sec:g} s"),
        ("Asked by", view.created_by),
        ("Asked at", _moment(view.created_at)),
        ("Started at", _moment(view.started_at)),
        ("Finished at", _moment(view.finished_at)),
        ("Expires at", _moment(view.expires_at)),
        ("Output", f"bytes: {sizes}" + (f"; {cut}" if (cut := cut_of(view)) else "")),
    ]


def _moment(at: datetime | None) -> str:
    """Return local time with its distance from UTC."""
    return NOTHING if at is None else at.astimezone().isoformat(sep=" ", timespec="seconds")


def _word(words: type[W], given: str, option: str) -> W:
    try:
        return words(given)
    except ValueError as error:
        known = ", ".join(str(word.value) for word in words)
        raise Failed(f"{option} {given}: it is one of {known}", Exit.USAGE) from error


def _print_json(document: Mapping[str, Any]) -> None:
    print(json_text(document))
