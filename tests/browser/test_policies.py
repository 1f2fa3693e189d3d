"""A policy made by hand and what its checks find, in a real Chromium on a real hub with a real agent."""

from playwright.async_api import Page, expect

from tests.system.demo import Demo

JUDGED_MS = 25_000
"""The page asks again every 15 seconds."""


async def make(dashboard: Page) -> None:
    """Make a policy by its form, with a check that no agent passes; what is missing is told on the way."""
    await dashboard.evaluate("location.hash = '#/policies'")
    await dashboard.get_by_test_id("policy-add").click()
    await dashboard.get_by_test_id("policy-save").click()
    await expect(dashboard.get_by_test_id("policy-problem")).to_contain_text("name")
    await dashboard.get_by_test_id("policy-name").fill("Newest agents")
    await dashboard.get_by_test_id("policy-denied").fill("rm\nmkfs")
    await dashboard.get_by_test_id("may-reboot").uncheck()
    await dashboard.get_by_test_id("deny-kill").check()
    await dashboard.get_by_test_id("policy-reason").check()
    await dashboard.get_by_test_id("check-example").filter(has_text="Firewall is on").click()
    await dashboard.get_by_test_id("check-add").click()
    check = dashboard.get_by_test_id("check-fields").nth(1)
    await check.get_by_test_id("check-name").fill("Agent is new")
    await check.get_by_test_id("check-fact").select_option("agent.version")
    await dashboard.get_by_test_id("policy-save").click()
    await expect(dashboard.get_by_test_id("policy-problem")).to_contain_text("Check 2: Give a value.")
    await check.get_by_test_id("check-value").fill("99.0")
    await dashboard.get_by_test_id("policy-save").click()


async def run_with_a_reason(dashboard: Page) -> None:
    """Order what the policy lets nobody order without a word: the refusal leads to the field."""
    await dashboard.get_by_test_id("command-input").fill("uname")
    await dashboard.get_by_test_id("command-run").click()
    reason = dashboard.get_by_test_id("job-reason")
    await expect(reason).to_be_focused()
    await expect(dashboard.get_by_role("alert").filter(has_text="“Newest agents” refuses this")).to_be_visible()
    await reason.press_sequentially("ticket 7")
    await reason.press("Enter")
    await expect(dashboard.get_by_test_id("command-status")).to_have_attribute("data-status", "COMPLETED")


async def test_a_policy_is_made_its_check_fails_on_a_machine_and_it_is_deleted(dashboard: Page, demo: Demo) -> None:
    await make(dashboard)
    row = dashboard.get_by_test_id("policy-row")
    await expect(row).to_contain_text("1 turned off · never kill · 2 denied · reason · 2 checks")
    await expect(row.get_by_test_id("policy-failed")).to_be_visible(timeout=JUDGED_MS)
    await row.get_by_test_id("policy-failed").click()
    of_this_machine = f'[data-testid="compliance-row"][data-key^="{demo.written["agentId"]}"]'
    found = dashboard.locator(of_this_machine).filter(has_text="Agent is new")
    await expect(found).to_contain_text("agent.version is version ≥ 99.0")
    async with demo.watching(await demo.sign_in()) as person:
        agent = (await person.do("agents:get", agentId=demo.written["agentId"]))["agent"]
        await expect(found.get_by_test_id("compliance-found")).to_have_text(agent["agentVersion"])
        order = {"agentId": agent["id"], "commandType": "reboot", "commandData": {}}
        refused = await person.ask("commands:create", order)
        assert "“Newest agents” refuses this (turnedOff)" in refused["error"]["message"]
    await dashboard.evaluate(f"location.hash = '#/machines/{demo.written['agentId']}'")
    await expect(dashboard.get_by_test_id("machine-check").filter(has_text="Agent is new")).to_contain_text("Failed")
    await run_with_a_reason(dashboard)

    await dashboard.evaluate("location.hash = '#/policies'")
    await row.get_by_test_id("policy-edit").click()
    await expect(dashboard.get_by_test_id("policy-denied")).to_have_value("rm\nmkfs")
    await expect(dashboard.get_by_test_id("deny-kill")).to_be_checked()
    await dashboard.get_by_test_id("policy-enabled").uncheck()
    await dashboard.get_by_test_id("policy-save").click()
    await expect(row).to_contain_text("not in force")
    await row.get_by_test_id("policy-delete").click()
    await dashboard.get_by_test_id("confirm").click()
    await expect(row).to_have_count(0)
