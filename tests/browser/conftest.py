"""One demo for all browser tests, and a page that is signed in to it."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from tests.system.demo import Demo, running_demo

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    async with running_demo(tmp_path_factory.mktemp("demo") / "var") as running:
        running.quicken()
        async with running.watching(await running.sign_in()) as person:
            await person.do("agents:update", agentId=running.agent.agent_id, config={"sampleIntervalSec": 1})
        yield running


@pytest.fixture
async def dashboard(page: Page, demo: Demo) -> AsyncIterator[Page]:
    """The fleet's page after sign-in; fails afterwards when the page or its console reported an error."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"page: {error}"))
    page.on("console", lambda message: problems.append(f"console: {message.text}") if message.type == "error" else None)
    await sign_in(page, demo)
    yield page
    assert problems == []


async def sign_in(page: Page, demo: Demo) -> None:
    written = demo.written
    await give_password(page, written["dashboardUrl"], written["username"], written["password"])
    await expect(page.get_by_test_id("connection-state")).to_contain_text("live")


async def give_password(page: Page, url: str, username: str, password: str) -> None:
    """Fill in the page of signing in and send it."""
    await page.goto(url)
    await page.get_by_test_id("sign-in-username").fill(username)
    await page.get_by_test_id("sign-in-password").fill(password)
    await page.get_by_test_id("sign-in-submit").click()
