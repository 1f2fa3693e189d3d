"""What administrators and people do about trust, in a real Chromium on a real hub."""

import asyncio
import datetime
import re
import uuid
from pathlib import Path

import pyotp
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.conftest import give_password
from tests.system.demo import Demo
from tests.system.programs import RealAgent, enrolled

PASSWORD = "four words that nobody guesses"
JOIN_STRING = re.compile(r"jtnt://\S+?#jtnte_[0-9A-Za-z.]+")


async def a_technician(demo: Demo) -> str:
    """Return the user name of somebody new."""
    username = f"tech-{uuid.uuid4().hex[:8]}"
    async with demo.watching(await demo.sign_in()) as admin:
        await admin.do("users:create", username=username, password=PASSWORD, role="technician")
    return username


async def token_of(dashboard: Page) -> str:
    """Make the token of the open dialog and return its join string."""
    await dashboard.get_by_test_id("join-make").click()
    found = JOIN_STRING.search(await dashboard.get_by_test_id("join-string").text_content() or "")
    assert found
    return found.group()


async def test_a_second_factor_is_set_up_and_asked_for_at_sign_in(page: Page, demo: Demo) -> None:
    username = await a_technician(demo)
    await give_password(page, demo, username, PASSWORD)
    await page.get_by_test_id("user-menu").click()
    await page.get_by_test_id("open-security").click()
    await page.get_by_test_id("totp-set-up").click()
    await page.get_by_test_id("totp-password").fill(PASSWORD)
    await page.get_by_test_id("totp-begin").click()
    await expect(page.get_by_test_id("qr")).to_be_visible()
    codes = pyotp.TOTP(await page.get_by_test_id("totp-secret").get_attribute("data-secret") or "")
    await page.get_by_test_id("totp-code").fill(codes.now())
    await page.get_by_test_id("totp-confirm").click()
    recovery_codes = (await page.get_by_test_id("recovery-codes").text_content() or "").split()
    assert len(recovery_codes) == 10
    await expect(page.get_by_test_id("totp-state")).to_contain_text("On")

    await page.get_by_test_id("user-menu").click()
    await page.get_by_test_id("sign-out").click()
    await give_password(page, demo, username, PASSWORD)
    await page.get_by_test_id("sign-in-otp").fill("000000")
    await page.get_by_test_id("sign-in-submit").click()
    await expect(page.get_by_test_id("sign-in-problem")).to_contain_text("code")
    next_code = codes.at(datetime.datetime.now(datetime.UTC), counter_offset=1)  # this one's was spent above
    await page.get_by_test_id("sign-in-otp").fill(next_code)
    await page.get_by_test_id("sign-in-submit").click()
    await expect(page.get_by_test_id("connection-state")).to_contain_text("live")

    await page.get_by_test_id("user-menu").click()
    await page.get_by_test_id("sign-out").click()
    await give_password(page, demo, username, PASSWORD)
    await page.get_by_test_id("sign-in-otp").fill(recovery_codes[0])
    await page.get_by_test_id("sign-in-submit").click()
    await expect(page.get_by_test_id("connection-state")).to_contain_text("live")


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
    username = await a_technician(demo)
    assert context.browser
    other = await (await context.browser.new_context()).new_page()
    await give_password(other, demo, username, PASSWORD)
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
