"""The browser tests get a Chromium that really renders, or words that say how to get one."""

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.servers import chromium
from tests.servers.chromium import Chromium, NoChromium


async def test_the_browser_runs_scripts_and_draws(page: Page) -> None:
    await page.set_content(
        "<canvas width=2 height=1></canvas><p>loading</p><script>"
        "const c = document.querySelector('canvas').getContext('2d');"
        "c.fillStyle = '#ff0000'; c.fillRect(0, 0, 1, 1);"
        "document.querySelector('p').textContent = [...c.getImageData(0, 0, 2, 1).data].join()</script>"
    )
    await expect(page.locator("p")).to_have_text("255,0,0,255,0,0,0,0")


async def test_text_has_a_font(page: Page) -> None:
    await page.set_content("<span style='font: 40px sans-serif'>JTNT</span>")
    box = await page.locator("span").bounding_box()
    assert box is not None
    assert box["width"] > 40


async def test_the_locale_is_one_that_dates_can_be_written_in(page: Page) -> None:
    assert await page.evaluate("new Intl.NumberFormat().resolvedOptions().locale") == "en-US"


def test_a_named_browser_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "my-chromium"
    program.touch(mode=0o755)
    monkeypatch.setenv("JTNT_CHROMIUM", str(program))
    assert chromium.chromium_here() == Chromium(program)


def test_a_named_browser_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JTNT_CHROMIUM", str(tmp_path / "nothing"))
    with pytest.raises(NoChromium, match="JTNT_CHROMIUM names"):
        chromium.chromium_here()


def test_without_any_browser_the_way_to_one_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JTNT_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "ROOT", tmp_path)
    with pytest.raises(NoChromium, match=r"scripts/dev\.py test"):
        chromium.chromium_here()
