"""A person at the dashboard, in a real Chromium."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import Page, async_playwright, expect

import hatch_build
from tests.servers import chromium
from tests.system.demo import Demo

LIVE_DEADLINE_MS: Final = 15_000


@asynccontextmanager
async def signed_in(demo: Demo) -> AsyncIterator[Page]:
    """The dashboard of `demo` after its sign-in."""
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", hatch_build.npm_here().argv[0])
    found = chromium.chromium_here()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=str(found.executable),
            args=list(chromium.ARGUMENTS),
            env={**os.environ, **found.environment},
        )
        page = await (await browser.new_context(locale="en-US")).new_page()
        await page.goto(demo.written["dashboardUrl"])
        await page.get_by_test_id("sign-in-username").fill(demo.written["username"])
        await page.get_by_test_id("sign-in-password").fill(demo.written["password"])
        await page.get_by_test_id("sign-in-submit").click()
        try:
            yield page
        finally:
            await browser.close()


async def live_values(demo: Demo) -> str:
    async with signed_in(demo) as page:
        row = page.locator(f"[data-testid=fleet-row][data-agent-id='{demo.agent.agent_id}']")
        await expect(row).to_have_attribute("data-status", "ACTIVE", timeout=LIVE_DEADLINE_MS)
        cell = row.get_by_test_id("fleet-cpu")
        await expect(cell).to_have_text(re.compile(r"\d+(\.\d)?\s*%"), timeout=LIVE_DEADLINE_MS)
        return f"CPU {await cell.inner_text()} of {await row.get_attribute('data-agent-id')}"


async def typed_command(demo: Demo) -> str:
    async with signed_in(demo) as page:
        await page.get_by_test_id("machine-open").first.click()
        await page.get_by_test_id("command-input").fill('["uname","-a"]')
        started = time.monotonic()
        await page.get_by_test_id("command-run").click()
        output = page.get_by_test_id("command-output")
        for word in os.uname()[:3]:
            await expect(output).to_contain_text(word)
        seconds = time.monotonic() - started
        await expect(page.get_by_test_id("command-status")).to_contain_text("Completed")
    return f"output after {seconds * 1000:.0f} ms"


async def killed_agent_is_shown(demo: Demo, kill: str) -> str:
    """Kill the agent with -9 and follow what a person sees."""
    async with signed_in(demo) as page:
        row = page.locator(f"[data-testid=fleet-row][data-agent-id='{demo.agent.agent_id}']")
        await expect(row).to_have_attribute("data-status", "ACTIVE", timeout=LIVE_DEADLINE_MS)
        os.kill(demo.agent.pid, 9)
        started = time.monotonic()
        await expect(row).to_have_attribute("data-status", "OFFLINE")
        offline = time.monotonic() - started
        await expect(row).to_contain_text(re.compile(kill, re.IGNORECASE))
        await expect(row).to_have_attribute("data-status", "ACTIVE", timeout=30_000)
        return f"offline after {offline:.1f} s, back after {time.monotonic() - started:.1f} s"
