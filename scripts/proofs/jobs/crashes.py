"""Every row of the crash table that concerns jobs, with real processes, killed at the step the row names."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from scripts.measures.hub import Hub
from scripts.proofs.jobs.site import Site, job_site, marking, process_of_jobs
from scripts.proofs.report import Report
from scripts.proofs.trust.system_calls import Counted, KillPoint, killed_at
from tests.integration.person import Json

RACES: Final = 40
RACE_SECONDS: Final = 0.3
WARM_SECONDS: Final = 1.5
AROUND_A_COMMIT: Final = (
    KillPoint("the first write of the commit", "pwrite64", 1, Counted.ANY_THREAD),
    KillPoint("the commit written, not synced", "fdatasync", 1, Counted.ANY_THREAD),
    KillPoint("committed, before the log", "write", 1, Counted.ON_LOG),
)
IN_A_JOBS_LIFE: Final = (
    *(KillPoint(f"write {number} of the journal", "pwrite64", number, Counted.ANY_THREAD) for number in (1, 3, 5)),
    *(KillPoint(f"sync {number} of the journal", "fdatasync", number, Counted.ANY_THREAD) for number in (1, 2, 3)),
    KillPoint("started on disk, before the process", "vfork", 1, Counted.ANY_THREAD),
)
NOT_RUN: Final = "started on disk, before the process"


async def show(report: Report) -> None:
    if not report.wants("crash"):
        return
    async with job_site() as site:
        for words, step in ROWS.items():
            await report.show(f"crash: {words}", partial(step, site))


async def asked_and_hub_killed(site: Site) -> str:
    said = []
    for point in AROUND_A_COMMIT:
        name, key = f"asked-{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
        await site.listed()
        asking = None
        try:
            async with killed_at(point, site.hub.pid, site.hub.folder.with_suffix(".log")):
                asking = asyncio.create_task(site.order(*marking(site, name), idempotencyKey=key))
        except TimeoutError:
            said.append(f"{point.meaning}: not reached")
        await site.kill_hub()
        assert asking is not None
        command_id = await asking
        again = await site.order(*marking(site, name), idempotencyKey=key)
        assert again == command_id, f"{point.meaning}: two commands of one key"
        await must_have_run_once(site, command_id, name)
    return f"killed at {len(AROUND_A_COMMIT)} points, one job each, run once; {', '.join(said) or 'all reached'}"


async def sent_and_not_delivered(site: Site) -> str:
    name = "undelivered"
    daemon = site.agent.pid
    os.kill(daemon, signal.SIGSTOP)
    command_id = await site.order(*marking(site, name))
    await site.reached(command_id, frozenset({"SENT"}))
    await site.kill_agent()
    assert site.runs(name) == 0
    await site.revive_agent()
    await must_have_run_once(site, command_id, name)
    return "sent to a stopped agent that was killed; sent again, run once"


async def agent_killed_in_a_jobs_life(site: Site) -> str:
    ends = []
    for point in IN_A_JOBS_LIFE:
        name = f"life-{uuid.uuid4().hex[:8]}"
        await site.reached(await site.order("true"))
        pid = process_of_jobs(site.agent)
        try:
            async with killed_at(point, pid, site.agent.spool):
                command_id = await site.order(*marking(site, name))
        except TimeoutError:
            raise AssertionError(f"{point.meaning} was not reached") from None
        await end_daemon(site)
        await site.revive_agent()
        found = await site.reached(command_id)
        end = (found["status"], found["reason"])
        assert end in {("COMPLETED", None), ("FAILED", "interrupted")}, f"{point.meaning}: {found}"
        assert site.runs(name) <= 1, f"{point.meaning}: run {site.runs(name)} times"
        assert end[0] == "FAILED" or site.runs(name) == 1, f"{point.meaning}: completed, never run"
        if point.meaning == NOT_RUN:
            assert (end, site.runs(name)) == (("FAILED", "interrupted"), 0), f"{point.meaning}: {found}"
        ends.append(f"{point.meaning}: {'run' if site.runs(name) else 'never run'}, {end[1] or end[0].lower()}")
    return "; ".join(ends)


async def daemon_killed_and_child_runs_on(site: Site) -> str:
    name = "child"
    command_id = await site.order(*marking(site, name, "echo before; sleep 4; echo after; exit 7"))
    await site.reached(command_id, frozenset({"EXECUTING"}))
    await site.kill_agent()
    await asyncio.sleep(0.5)
    await site.revive_agent()
    found = await site.reached(command_id)
    assert (found["status"], found["exitCode"]) == ("FAILED", 7), found
    assert site.runs(name) == 1
    output = await site.output(command_id)
    assert output == b"before\nafter\n", output
    return "exit code 7 and both lines of its output, of one run"


async def result_and_hub_killed(site: Site, points: Sequence[KillPoint] = AROUND_A_COMMIT) -> str:
    said = []
    for point in points:
        name = f"result-{uuid.uuid4().hex[:8]}"
        command_id = await site.order(*marking(site, name, "echo first; sleep 3; exit 5"))
        await site.reached(command_id, frozenset({"EXECUTING"}))
        await asyncio.sleep(WARM_SECONDS)
        try:
            async with killed_at(point, site.hub.pid, site.hub.folder.with_suffix(".log")):
                pass
        except TimeoutError:
            said.append(f"{point.meaning}: not reached")
        await site.kill_hub()
        found = await site.reached(command_id)
        assert (found["status"], found["exitCode"]) == ("FAILED", 5), f"{point.meaning}: {found}"
        assert await site.output(command_id) == b"first\n"
        assert site.runs(name) == 1
    return f"killed at {len(points)} points, exit code 5 each time; {', '.join(said) or 'all reached'}"


async def cancel_races_the_end(site: Site, races: int = RACES) -> str:
    ends: dict[str, int] = {}
    for number in range(races):
        name = f"race-{number}"
        command_id = await site.order(*marking(site, name, "sleep 0.1; echo done"))
        await asyncio.sleep(RACE_SECONDS * number / races)
        await site.do("commands:cancel", commandId=command_id)
        found = await site.reached(command_id)
        await asyncio.sleep(0.05)
        assert await site.command(command_id) == found, "a command that had ended changed"
        is_done = await site.output(command_id) == b"done\n"
        assert found["status"] in {"COMPLETED", "CANCELLED"}, found
        assert found["status"] == "CANCELLED" or is_done, found
        assert site.runs(name) <= 1
        ends[found["status"]] = ends.get(found["status"], 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(ends.items()))


async def two_hubs_send_the_same_job(site: Site) -> str:
    """A copy of the hub, made while the job waited, sends it first; then the hub itself."""
    name = "two-hubs"
    await end_daemon(site)
    command_id = await site.order(*marking(site, name, "exit 4"))
    await site.hub.stop()
    copy = Hub(site.folder / "copy", {"JTNT_DATABASE_URL": f"sqlite+aiosqlite:///{site.folder / 'copy' / 'hub.db'}"})
    shutil.copytree(site.hub.folder, copy.folder, ignore=shutil.ignore_patterns("*.lock", "*.sock"))
    await copy.start()
    original = site.agent.config["websocket_url"]
    other = Site(copy, site.agents, site.folder)
    try:
        site.agent.configure(websocket_url=original.replace(f":{site.hub.agent_port}/", f":{copy.agent_port}/"))
        await site.revive_agent()
        first = await _ended_at(other, site, command_id)
        await other.hang_up()
        await site.agent.stop()
    finally:
        await copy.stop()
    site.agent.configure(websocket_url=original)
    await site.revive_hub()
    await site.revive_agent()
    second = await site.reached(command_id)
    assert (first["exitCode"], second["exitCode"], site.runs(name)) == (4, 4, 1), (first, second, site.runs(name))
    return "run by the first, known to the agent when the second sent it: one run, exit code 4 at both"


async def _ended_at(other: Site, site: Site, command_id: str) -> Json:
    other.hub._password = site.hub._password  # noqa: SLF001  the copy has the same people
    return await other.reached(command_id)


async def must_have_run_once(site: Site, command_id: str, name: str) -> None:
    found = await site.reached(command_id)
    assert (found["status"], site.runs(name)) == ("COMPLETED", 1), (found, site.runs(name))
    assert [each["id"] for each in await site.listed()].count(command_id) == 1


async def end_daemon(site: Site) -> None:
    """Let the daemon be down, whatever killed its processes before."""
    with suppress(ProcessLookupError):
        await site.kill_agent()


ROWS: Final = {
    "job asked for, hub killed around the commit: one job by its key, run once": asked_and_hub_killed,
    "job sent, not delivered: sent again, run once": sent_and_not_delivered,
    "agent killed at each step of a job's life: at most one run, and its end is true": agent_killed_in_a_jobs_life,
    "daemon killed, child runs on: its true result is found": daemon_killed_and_child_runs_on,
    "result sent, hub killed on either side of the commit: stored once": result_and_hub_killed,
    f"cancel races the end, {RACES} times: one terminal state": cancel_races_the_end,
    "two hubs send the same job: one run": two_hubs_send_the_same_job,
}
