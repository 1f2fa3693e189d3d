"""The main job: from nothing to live values, a command that runs, and nothing lost by any kill."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from scripts.proofs import bad_input, browser, kills
from scripts.proofs.bare_copy import BareCopy, bare_copy
from scripts.proofs.further_machines import FurtherMachines
from scripts.proofs.report import Report
from scripts.proofs.seed_example import seed_example
from tests.system.demo import Demo

SETUP_DEADLINE_SECONDS: Final = 900.0
LIVE_WITHIN_SECONDS: Final = 10.0
SUITE_WITHIN_SECONDS: Final = 480.0
SAMPLE_SECONDS: Final = 1


async def prove(report: Report) -> None:
    """Show every line of the main job. The copy's own test suite comes last."""
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-") as name:
        folder = Path(name)
        copy = await asyncio.to_thread(bare_copy, folder)
        async with _demo(report, copy) as demo:
            token = await demo.sign_in()
            await _first_impressions(report, demo, copy)
            await report.show(
                "hub killed with -9, agent at its own pace: nothing lost, nothing twice",
                lambda: kills.hub_killed_once_at_the_agents_own_pace(demo, token),
            )
            await _quicken(demo, token)
            await report.show(
                "agent killed with -9: the dashboard says offline with a reason, then live again",
                lambda: browser.killed_agent_is_shown(demo, "connection"),
            )
            await report.show(
                "agent killed with -9 again and again: back by itself each time",
                lambda: kills.agent_killed_often(demo, token),
            )
            await report.show(
                "hub killed with -9 again and again: nothing acknowledged lost, nothing stored twice",
                lambda: kills.hub_killed_often(demo, token),
            )
            await FurtherMachines(demo, token, folder).show(report)
            await bad_input.show(report, demo, token, folder)
        await report.show("the test suite, without a network but loopback, under 8 minutes", lambda: _suite(copy))


@asynccontextmanager
async def _demo(report: Report, copy: BareCopy) -> AsyncIterator[Demo]:
    """The demo, started in the bare copy by the README's command."""
    demo = Demo(
        copy.folder / "var",
        up=copy.command("up"),
        cwd=copy.folder,
        deadline_seconds=SETUP_DEADLINE_SECONDS,
        **copy.variables,
    )
    started = time.monotonic()
    try:
        await demo.start()
        seconds = time.monotonic() - started
        report.say("PASS", "`python3 scripts/dev.py up` from nothing, empty home and caches", f"{seconds:.1f} s")
        report.held += 1
        yield demo
    finally:
        await demo.close()


async def _first_impressions(report: Report, demo: Demo, copy: BareCopy) -> None:
    async def live() -> str:
        assert demo.live_after_seconds <= LIVE_WITHIN_SECONDS, f"{demo.live_after_seconds:.1f} s"
        return f"{demo.live_after_seconds:.1f} s after the hub listened"

    await report.show("live values of this machine within 10 s", live)
    await report.show("the dashboard shows them in a real Chromium", lambda: browser.live_values(demo))
    await report.show('["uname","-a"] typed in the browser shows its output', lambda: browser.typed_command(demo))
    await report.show(
        "seed 004's dashboard example, as written, receives agents:status and agent:metrics",
        lambda: seed_example(demo, copy.folder / "static"),
    )

    async def warm() -> str:
        started = time.monotonic()
        code, said = await copy.run(*copy.command("run", "true"))
        seconds = time.monotonic() - started
        assert code == 0, said
        assert seconds < 1, f"{seconds:.2f} s"
        return f"{seconds * 1000:.0f} ms"

    await report.show("warm start of scripts/dev.py under a second", warm)


async def _quicken(demo: Demo, token: str) -> None:
    """Let retries and samples come within seconds, so that kills can be many."""
    demo.quicken()
    async with demo.watching(token) as person:
        config = {"sampleIntervalSec": SAMPLE_SECONDS}
        await person.do("agents:update", agentId=demo.agent.agent_id, config=config)


async def _suite(copy: BareCopy) -> str:
    """Run the README's other command in the copy; its set-up comes before, for it needs a network."""
    code, said = await copy.run(*copy.command("test", "--collect-only", "-q"))
    assert code == 0, said[-3000:]
    alone = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    isolated = shutil.which("unshare") is not None and (await copy.run(*alone, "true"))[0] == 0
    started = time.monotonic()
    code, said = await copy.run(*(alone if isolated else ()), *copy.command("test", "-q", "-p", "no:cacheprovider"))
    seconds = time.monotonic() - started
    assert code == 0, said[-3000:]
    assert seconds < SUITE_WITHIN_SECONDS, f"{seconds:.0f} s"
    passed = re.search(r"(\d+) passed", said)
    where = "in a network namespace of its own" if isolated else "this machine cannot take the network away"
    return f"{passed.group(1) if passed else '?'} tests, {seconds:.0f} s, {where}"
