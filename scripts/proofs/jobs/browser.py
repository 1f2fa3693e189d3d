"""A job as a person sees it in a real Chromium: watched, closed, opened again, cancelled, its hub killed meanwhile."""

from __future__ import annotations

import json
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from playwright.async_api import BrowserContext, Locator, Page, expect

from scripts.proofs.browser import signed_in
from scripts.proofs.report import Report
from tests.system.demo import Demo, running_demo

LINES_OF_OUTPUT: Final = 400
DEADLINE_MS: Final = 60_000
COUNTING: Final = "for i in $(seq 1 400); do echo out $i; echo err $i >&2; sleep 0.03; done"
"""Counts on both streams, for longer than it takes to close a tab or to start a hub."""


async def show(report: Report) -> None:
    if not report.wants("browser"):
        return
    with tempfile.TemporaryDirectory(prefix="jtnt-prove-jobs-") as name:
        async with running_demo(Path(name) / "var") as demo:
            demo.quicken()
            for words, step in STEPS.items():
                await report.show(f"browser: {words}", partial(step, demo))


async def closed_and_opened(demo: Demo) -> str:
    async with signed_in(demo) as page:
        command_id = await start(page, demo, "sh", "-c", COUNTING)
        await expect(output_of(page)).to_contain_text(re.compile(r"out \d"))
        context = page.context
        await page.close()
        return await complete(await reopened(context, demo, command_id))


async def hub_killed(demo: Demo) -> str:
    async with signed_in(demo) as page:
        command_id = await start(page, demo, "sh", "-c", COUNTING)
        await expect(output_of(page)).to_contain_text(re.compile(r"out \d"))
        await demo.kill_hub()
        said = await complete(page)
        return f"{said}; opened again: {await complete(await reopened(page.context, demo, command_id))}"


async def cancelled(demo: Demo) -> str:
    async with signed_in(demo) as page:
        await start(page, demo, "sh", "-c", 'trap "" TERM; echo begun; exec sleep 600')
        await expect(output_of(page)).to_contain_text("begun", timeout=DEADLINE_MS)
        await page.get_by_test_id("command-cancel").click()
        await expect(status_of(page)).to_have_attribute("data-status", "CANCELLED", timeout=DEADLINE_MS)
        return "a job that ignores SIGTERM was ended"


async def start(page: Page, demo: Demo, *argv: str) -> str:
    """Run a program on the machine's page and return the id of its job."""
    await page.evaluate(f"location.hash = '#/machines/{demo.agent.agent_id}'")
    await page.get_by_test_id("command-input").fill(json.dumps(argv))
    await page.get_by_test_id("command-run").click()
    await expect(status_of(page)).to_have_attribute("data-command-id", re.compile("."))
    return str(await status_of(page).get_attribute("data-command-id"))


async def reopened(context: BrowserContext, demo: Demo, command_id: str) -> Page:
    page = await context.new_page()
    await page.goto(f"{demo.url}/#/jobs/{command_id}")
    return page


def status_of(page: Page) -> Locator:
    return page.get_by_test_id("command-status").first


def output_of(page: Page) -> Locator:
    return page.get_by_test_id("command-output").first


async def complete(page: Page) -> str:
    """Wait for the end; return what was shown. Raises AssertionError when a line is missing, twice or out of place."""
    await expect(status_of(page)).to_have_attribute("data-status", "COMPLETED", timeout=DEADLINE_MS)
    await page.get_by_test_id("view-plain").click()
    for stream, word in (("stdout", "out"), ("stderr", "err")):
        await page.get_by_test_id(f"stream-{stream}").click()
        plain = page.get_by_test_id("plain-output")
        await expect(plain).to_contain_text(f"{word} {LINES_OF_OUTPUT}", timeout=DEADLINE_MS)
        found = re.findall(rf"{word} (\d+)", await plain.inner_text())
        assert found == [str(number) for number in range(1, LINES_OF_OUTPUT + 1)], f"{len(found)} lines: {found[:5]}…"
    return f"{2 * LINES_OF_OUTPUT} lines, complete and in order"


STEPS: Final = {
    "started, watched, the tab closed and opened again: output complete and in order": closed_and_opened,
    "hub killed with -9 while it is watched: output complete and in order": hub_killed,
    "cancelled": cancelled,
}
