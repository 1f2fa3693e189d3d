"""One demo for all browser tests, and a page that is signed in to it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.demo import Demo

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder: Path = tmp_path_factory.mktemp("demo")
    running = Demo(folder)
    running.start()
    try:
        yield running
    finally:
        running.stop()


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
    facts = demo.facts
    await page.goto(facts["dashboardUrl"])
    await page.get_by_test_id("sign-in-username").fill(facts["username"])
    await page.get_by_test_id("sign-in-password").fill(facts["password"])
    await page.get_by_test_id("sign-in-submit").click()
    await expect(page.get_by_test_id("connection-state")).to_contain_text("live")
