"""The main job as a person does it, in a real Chromium on a real hub with this machine as a real agent."""

import asyncio
import os
import re
import sys
from pathlib import Path

from playwright.async_api import Page, expect

from tests.system.demo import Demo
from tests.system.programs import POLL_SECONDS, RealAgent, enrolled, kill

INVENTORY_DEADLINE_SECONDS = 60.0


async def test_this_machine_is_shown_with_live_values(dashboard: Page, demo: Demo) -> None:
    row = dashboard.locator(f"[data-testid=fleet-row][data-agent-id='{demo.written['agentId']}']")
    await expect(row).to_have_attribute("data-status", "ACTIVE")
    await expect(row.get_by_test_id("fleet-cpu")).to_have_text(re.compile(r"\d+(\.\d)?\s*%"))


async def test_a_wrong_password_is_refused_in_words(page: Page, demo: Demo) -> None:
    await page.goto(demo.written["dashboardUrl"])
    await page.get_by_test_id("sign-in-username").fill("admin")
    await page.get_by_test_id("sign-in-password").fill("not the password at all")
    await page.get_by_test_id("sign-in-submit").click()
    await expect(page.get_by_test_id("sign-in-problem")).to_be_visible()
    await expect(page.get_by_test_id("fleet-row")).to_have_count(0)


async def test_a_command_typed_in_the_browser_shows_its_output(dashboard: Page, demo: Demo) -> None:
    await dashboard.get_by_test_id("machine-open").first.click()
    await dashboard.get_by_test_id("command-input").fill('["uname","-a"]')
    await dashboard.get_by_test_id("command-run").click()
    for word in os.uname()[:3]:
        await expect(dashboard.get_by_test_id("command-output")).to_contain_text(word)
    await expect(dashboard.get_by_test_id("command-status")).to_contain_text("Completed")


async def test_a_failing_command_says_its_exit_code(dashboard: Page) -> None:
    await dashboard.get_by_test_id("machine-open").first.click()
    await dashboard.get_by_test_id("command-input").fill("sh -c 'echo to stderr >&2; exit 3'")
    await dashboard.get_by_test_id("command-run").click()
    await expect(dashboard.get_by_test_id("command-output")).to_contain_text("to stderr")
    await expect(dashboard.get_by_test_id("command-status")).to_contain_text("Failed")
    await expect(dashboard.get_by_text("exit code 3").first).to_be_visible()


async def test_output_of_a_command_is_text_and_never_markup(dashboard: Page) -> None:
    await dashboard.get_by_test_id("machine-open").first.click()
    await dashboard.get_by_test_id("command-input").fill("printf '<img src=x onerror=alert(1)>'")
    await dashboard.get_by_test_id("command-run").click()
    await expect(dashboard.get_by_test_id("command-output")).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(dashboard.get_by_test_id("command-output").locator("img")).to_have_count(0)


async def test_the_charts_draw_history_and_go_on_live(dashboard: Page) -> None:
    await dashboard.get_by_test_id("machine-open").first.click()
    chart = dashboard.get_by_test_id("chart-cpu")
    await expect(chart.locator("canvas")).to_be_visible()
    await expect(chart).to_have_attribute("data-points", re.compile(r"[1-9]\d*"))
    before = int(await chart.get_attribute("data-points") or "0")
    await expect(chart).not_to_have_attribute("data-points", str(before), timeout=25_000)


async def test_a_killed_agent_is_offline_with_a_reason_and_comes_back(dashboard: Page, demo: Demo) -> None:
    row = dashboard.locator(f"[data-testid=fleet-row][data-agent-id='{demo.written['agentId']}']")
    await expect(row).to_have_attribute("data-status", "ACTIVE")
    kill(demo.agent.pid)
    await expect(row).to_have_attribute("data-status", "OFFLINE")
    await expect(row).to_contain_text(re.compile("connection", re.IGNORECASE))
    await expect(row).to_have_attribute("data-status", "ACTIVE", timeout=30_000)


async def test_a_machine_tells_of_itself_and_the_hub_of_itself(dashboard: Page, demo: Demo) -> None:
    await inventory_known(demo)
    machine = f"#/machines/{demo.written['agentId']}"
    await dashboard.evaluate(f"location.hash = '{machine}?show=packages'")
    await dashboard.get_by_test_id("inventory-search").fill("no such package")
    await expect(dashboard.get_by_test_id("inventory-row")).to_have_count(0)
    await dashboard.get_by_test_id("inventory-search").fill("")
    await expect(dashboard.get_by_test_id("inventory-row").first).to_be_visible()
    await dashboard.evaluate(f"location.hash = '{machine}?show=reports'")
    await expect(dashboard.locator("[data-kind=disconnected]").first).to_contain_text("Disconnected for")

    await dashboard.evaluate(f"location.hash = '{machine}'")
    await dashboard.get_by_test_id("panel-disks").get_by_test_id("unfold").first.click()
    await expect(dashboard.get_by_test_id("chart-of-disk")).to_contain_text(re.compile(r"used\s*\d+\.\d%"))
    await dashboard.get_by_test_id("range-30d").click()
    await expect(dashboard.get_by_test_id("fineness")).to_contain_text("each point is")
    await expect(dashboard.get_by_test_id("panel-logins")).to_contain_text("not collected")
    await dashboard.get_by_test_id("machine-edit").click()
    await dashboard.get_by_test_id("edit-logins").check()
    await dashboard.get_by_test_id("edit-save").click()
    await expect(dashboard.get_by_test_id("panel-logins")).not_to_contain_text("not collected")

    await dashboard.evaluate("location.hash = '#/'")
    await dashboard.get_by_test_id("hub-strip").click()
    await expect(dashboard.get_by_test_id("hub-health")).to_contain_text("Loop lag p99")
    await expect(dashboard.get_by_test_id("chart-lag")).to_contain_text(re.compile(r"p99\s*[\d.]+ m?s"))
    await dashboard.evaluate("location.hash = '#/trends?by=os'")
    await expect(dashboard.get_by_test_id("trend-row")).to_contain_text(re.compile(r"\d%"))


async def inventory_known(demo: Demo) -> None:
    """Collect this machine's inventory at once, kill its agent, and return when the hub has it of the next one."""
    collect = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent_client.inventory", str(demo.agent.folder / "inventory")
    )
    assert await collect.wait() == 0
    kill(demo.agent.pid)
    async with demo.watching(await demo.sign_in()) as person, asyncio.timeout(INVENTORY_DEADLINE_SECONDS):
        known: set[str] = set()
        while not {"hardware", "packages"} <= known:
            await asyncio.sleep(5 * POLL_SECONDS)
            reply = await person.do("inventory:get", agentId=demo.written["agentId"])
            known = {section["section"] for section in reply["sections"]}


async def test_a_machine_added_by_the_line_from_the_dashboard_appears_live(dashboard: Page, tmp_path: Path) -> None:
    await dashboard.get_by_test_id("add-machine").first.click()
    make = dashboard.get_by_test_id("join-make")
    if await make.count():
        await make.click()
    line = await dashboard.get_by_test_id("join-string").text_content()
    found = re.search(r"jtnt://\S+?#jtnte_[0-9A-Za-z.]+", line or "")
    assert found, line
    async with enrolled(tmp_path / "second", found.group()) as second:
        await second.start()
        await expect(dashboard.get_by_test_id("joined")).to_be_visible()
        await dashboard.keyboard.press("Escape")
        await expect(dashboard.locator("[data-testid=fleet-row][data-status=ACTIVE]")).to_have_count(2)
    again = await RealAgent(tmp_path / "third").enroll(found.group())
    assert again.code != 0
    assert "used" in again.complained


async def test_an_alert_is_raised_shown_and_resolved_by_a_person(dashboard: Page, demo: Demo) -> None:
    async with demo.watching(await demo.sign_in()) as person:
        agent_id = demo.written["agentId"]
        await person.do("agents:update", agentId=agent_id, thresholds={"diskWarning": 0.01})
        await dashboard.evaluate("location.hash = '#/alerts'")
        alert = dashboard.get_by_test_id("alert-row").filter(has_text="Disk usage high")
        await expect(alert).to_be_visible(timeout=25_000)
        await alert.get_by_test_id("alert-resolve").click()
        await expect(alert).to_have_count(0)
        listed = await person.do("alerts:list", agentId=agent_id, state="RESOLVED")
        assert "user:admin" in [shown["resolvedBy"] for shown in listed["alerts"] if shown["type"] == "disk"]
        await person.do("agents:update", agentId=agent_id, thresholds={})


async def test_a_person_signs_out(dashboard: Page) -> None:
    await dashboard.get_by_test_id("user-menu").click()
    await dashboard.get_by_test_id("sign-out").click()
    await expect(dashboard.get_by_test_id("sign-in-username")).to_be_visible()
    await dashboard.reload()
    await expect(dashboard.get_by_test_id("sign-in-username")).to_be_visible()


async def test_a_reload_keeps_the_sign_in(dashboard: Page) -> None:
    await dashboard.reload()
    await expect(dashboard.get_by_test_id("connection-state")).to_contain_text("live")
    await expect(dashboard.get_by_test_id("fleet-row").first).to_be_visible()
