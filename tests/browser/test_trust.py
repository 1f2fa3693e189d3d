"""What administrators and people do about trust, in a real Chromium on a real hub."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pyotp
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.conftest import give_password
from tests.integration.hub import ADMINISTRATOR, PASSWORD, running_hub
from tests.system.demo import Demo
from tests.system.programs import RealAgent, enrolled

JOIN_STRING = re.compile(r"jtnt://\S+?#jtnte_[0-9A-Za-z.]+")


async def token_of(dashboard: Page) -> str:
    """Make the token of the open dialog and return its join string."""
    await dashboard.get_by_test_id("join-make").click()
    found = JOIN_STRING.search(await dashboard.get_by_test_id("join-string").text_content() or "")
    assert found
    return found.group()


async def sign_out(page: Page) -> None:
    await page.get_by_test_id("user-menu").click()
    await page.get_by_test_id("sign-out").click()


async def test_who_may_run_commands_is_led_to_a_second_factor_and_signs_in_with_it(page: Page, tmp_path: Path) -> None:
    async with running_hub(tmp_path, access={"second_factor": "always"}) as hub:
        await give_password(page, hub.web_url, ADMINISTRATOR, PASSWORD)
        await expect(page.get_by_test_id("second-factor-needed")).to_be_visible()
        await expect(page.get_by_test_id("manage-menu")).to_have_count(0)
        await page.get_by_test_id("totp-set-up").click()
        await page.get_by_test_id("totp-password").fill(PASSWORD)
        await page.get_by_test_id("totp-begin").click()
        await expect(page.get_by_test_id("qr")).to_be_visible()
        codes = pyotp.TOTP(await page.get_by_test_id("totp-secret").get_attribute("data-secret") or "")
        await page.get_by_test_id("totp-code").fill(codes.now())
        await page.get_by_test_id("totp-confirm").click()
        recovery_codes = (await page.get_by_test_id("recovery-codes").text_content() or "").split()
        assert len(recovery_codes) == 10
        await expect(page.get_by_test_id("second-factor-done")).to_be_visible()
        await expect(page.get_by_test_id("manage-menu")).to_be_visible()

        await sign_out(page)
        await give_password(page, hub.web_url, ADMINISTRATOR, PASSWORD)
        await page.get_by_test_id("sign-in-otp").fill("a wrong code")
        await page.get_by_test_id("sign-in-submit").click()
        await expect(page.get_by_test_id("sign-in-problem")).to_contain_text("code is wrong")
        next_code = codes.at(datetime.now(UTC), counter_offset=1)  # this one's was spent above
        await page.get_by_test_id("sign-in-otp").fill(next_code)
        await page.get_by_test_id("sign-in-submit").click()
        await expect(page.get_by_test_id("manage-menu")).to_be_visible()

        await sign_out(page)
        await give_password(page, hub.web_url, ADMINISTRATOR, PASSWORD)
        await page.get_by_test_id("sign-in-otp").fill(recovery_codes[0])
        await page.get_by_test_id("sign-in-submit").click()
        await expect(page.get_by_test_id("manage-menu")).to_be_visible()


async def test_a_machine_joins_with_a_token_made_under_joining(dashboard: Page, tmp_path: Path) -> None:
    await dashboard.evaluate("location.hash = '#/joining'")
    await dashboard.get_by_test_id("joining-add").click()
    async with enrolled(tmp_path / "agent", await token_of(dashboard)) as agent:
        await agent.start()
        await expect(dashboard.get_by_test_id("joined")).to_be_visible()
        await dashboard.keyboard.press("Escape")
        await expect(dashboard.get_by_test_id("token-row").first).to_contain_text("1 of 1")


async def test_a_machine_waits_until_a_person_lets_it_in(dashboard: Page, tmp_path: Path) -> None:
    await dashboard.evaluate("location.hash = '#/joining'")
    await dashboard.get_by_test_id("joining-add").click()
    await dashboard.get_by_test_id("join-approval").check()
    agent = RealAgent(tmp_path / "agent")
    async with asyncio.TaskGroup() as tasks:
        enrolling = tasks.create_task(agent.enroll(await token_of(dashboard)))
        dialog = dashboard.get_by_role("dialog", name="Make a token")
        fingerprint = await dialog.get_by_test_id("waiting-fingerprint").get_attribute("data-fingerprint")
        await dialog.get_by_test_id("waiting-approve").click()
        await dashboard.get_by_test_id("confirm").click()
        await expect(dashboard.get_by_test_id("waiting-row")).to_have_count(0)
    outcome = enrolling.result()
    assert outcome.code == 0, outcome.complained
    assert fingerprint
    assert fingerprint in outcome.said + outcome.complained


async def test_a_locked_person_is_out_at_once_and_the_audit_tells_who_did_it(
    dashboard: Page, context: BrowserContext, demo: Demo
) -> None:
    username = "tina"
    async with demo.watching(await demo.sign_in()) as admin:
        await admin.do("users:create", username=username, password=PASSWORD, role="technician")
    assert context.browser
    other = await (await context.browser.new_context()).new_page()
    await give_password(other, demo.written["dashboardUrl"], username, PASSWORD)
    await expect(other.get_by_test_id("connection-state")).to_contain_text("live")

    await dashboard.evaluate("location.hash = '#/people'")
    row = dashboard.get_by_test_id("user-row").filter(has_text=username)
    await row.get_by_test_id("user-edit").click()
    await dashboard.get_by_test_id("user-lock").click()
    await expect(row.get_by_test_id("user-locked")).to_be_visible()
    await expect(other.get_by_test_id("sign-in-username")).to_be_visible()
    await other.context.close()

    await dashboard.keyboard.press("Escape")
    await dashboard.evaluate(f"location.hash = '#/audit?action=users:lock&q={username}'")
    entry = dashboard.get_by_test_id("audit-row")
    await expect(entry).to_have_count(1)
    await expect(entry).to_contain_text(demo.written["username"])
    await entry.get_by_test_id("audit-unfold").click()
    await expect(dashboard.get_by_test_id("audit-detail")).to_contain_text(f"user:{demo.written['username']}")


async def test_the_secret_of_an_api_key_is_shown_once_and_the_key_is_revoked(dashboard: Page) -> None:
    await dashboard.evaluate("location.hash = '#/people?show=keys'")
    await dashboard.get_by_test_id("api-key-add").click()
    await dashboard.get_by_test_id("api-key-name").fill("nightly report")
    await dashboard.get_by_test_id("api-key-make").click()
    await expect(dashboard.get_by_test_id("api-key-text")).to_contain_text("jtntk_")
    await dashboard.keyboard.press("Escape")
    row = dashboard.get_by_test_id("api-key-row").filter(has_text="nightly report")
    await expect(row).to_contain_text("Good")
    await expect(dashboard.get_by_text("jtntk_")).to_have_count(0)
    await row.get_by_test_id("api-key-revoke").click()
    await dashboard.get_by_test_id("confirm").click()
    await expect(row).to_contain_text("Revoked")
