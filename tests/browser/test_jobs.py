"""Jobs as a person sees them, in a real Chromium on a real hub with this machine as a real agent."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import sign_in
from tests.system.demo import Demo

COUNTING = (
    "i=0; while [ ! -e {ready} ]; do i=$((i+1)); echo out $i; echo err $i >&2; sleep 0.02; done; "
    "echo end $i; echo end $i >&2"
)
"""Counts on both streams until a file is there."""


async def start(page: Page, demo: Demo, *argv: str) -> str:
    """Run a program on the machine's page and return the id of its job."""
    await page.evaluate(f"location.hash = '#/machines/{demo.written['agentId']}'")
    await page.get_by_test_id("command-input").fill(json.dumps(argv))
    await page.get_by_test_id("command-run").click()
    await expect(page).to_have_url(re.compile(r"command="))
    command_id = await page.get_by_test_id("command-status").get_attribute("data-command-id")
    assert command_id
    return command_id


async def counted(page: Page, stream: str) -> list[str]:
    """Return the lines of one stream as plain text."""
    await page.get_by_test_id("view-plain").click()
    await page.get_by_test_id(f"stream-{stream}").click()
    blocks: list[str] = (
        await page.get_by_test_id("plain-output")
        .locator("pre")
        .evaluate_all("blocks => blocks.map(block => [...block.childNodes].at(-1).textContent)")
    )
    return "".join(blocks).splitlines()


async def expect_complete(page: Page) -> None:
    """Both streams hold every line once, in order, to the end."""
    await expect(page.get_by_test_id("command-status")).to_have_attribute("data-status", "COMPLETED")
    for stream, word in (("stdout", "out"), ("stderr", "err")):
        await page.get_by_test_id("view-plain").click()
        await page.get_by_test_id(f"stream-{stream}").click()
        await expect(page.get_by_test_id("plain-output")).to_contain_text("end ")
        lines = await counted(page, stream)
        last = len(lines) - 1
        assert lines == [*(f"{word} {number}" for number in range(1, last + 1)), f"end {last}"]
    await page.get_by_test_id("view-terminal").click()


async def test_output_is_complete_and_in_order_after_the_tab_was_closed(
    dashboard: Page, demo: Demo, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    command_id = await start(dashboard, demo, "sh", "-c", COUNTING.format(ready=ready))
    await expect(dashboard.get_by_test_id("command-output")).to_contain_text(re.compile(r"out \d\d"))
    await expect(dashboard.get_by_test_id("command-output")).to_contain_text(re.compile(r"err \d\d"))
    context = dashboard.context
    await dashboard.close()
    page = await context.new_page()
    await page.goto(f"{demo.url}/#/jobs/{command_id}")
    await expect(page.get_by_test_id("command-output")).to_contain_text(re.compile(r"err \d\d"))
    ready.touch()
    await expect_complete(page)
    await page.reload()
    await expect_complete(page)


async def test_output_is_complete_and_in_order_when_the_hub_is_killed_in_between(
    page: Page, demo: Demo, tmp_path: Path
) -> None:
    await sign_in(page, demo)  # not `dashboard`: the lost connection is an error on the console
    ready = tmp_path / "ready"
    command_id = await start(page, demo, "sh", "-c", COUNTING.format(ready=ready))
    await expect(page.get_by_test_id("command-output")).to_contain_text(re.compile(r"err \d\d"))
    await demo.kill_hub()
    ready.touch()
    await expect(page.get_by_test_id("command-status")).to_have_attribute("data-status", "COMPLETED", timeout=60_000)
    await expect_complete(page)
    reopened = await page.context.new_page()
    await reopened.goto(f"{demo.url}/#/jobs/{command_id}")
    await expect_complete(reopened)


async def test_a_job_is_cancelled_and_run_again(dashboard: Page, demo: Demo) -> None:
    command_id = await start(dashboard, demo, "sh", "-c", 'trap "" TERM; echo begun; exec sleep 600')
    await expect(dashboard.get_by_test_id("command-output")).to_contain_text("begun")
    other = await dashboard.context.new_page()
    await other.goto(f"{demo.url}/#/jobs/{command_id}")
    await expect(other.get_by_test_id("command-output")).to_contain_text("begun")
    await dashboard.get_by_test_id("command-cancel").click()
    await expect(dashboard.get_by_test_id("asked-to-stop")).to_be_visible()
    await expect(other.get_by_test_id("asked-to-stop")).to_be_visible()
    await other.close()
    await expect(dashboard.get_by_test_id("command-status")).to_have_attribute("data-status", "CANCELLED")
    await expect(dashboard.get_by_test_id("asked-to-stop")).to_have_count(0)

    await dashboard.get_by_test_id("job-open").click()
    await dashboard.get_by_test_id("run-again").click()
    form = dashboard.get_by_role("dialog", name="Run again")
    await expect(form.get_by_test_id("job-machine")).not_to_have_value("")
    await expect(form.get_by_test_id("argument")).to_have_text(["sh", "-c", 'trap "" TERM; echo begun; exec sleep 600'])
    await form.get_by_test_id("command-input").fill("printf '%s.' one 'two three'")
    await form.get_by_test_id("command-run").dblclick()
    await expect(dashboard.get_by_test_id("command-output")).to_contain_text("one.two three.")
    await dashboard.evaluate(f"location.hash = '#/jobs?machine={demo.written['agentId']}'")
    rows = dashboard.get_by_test_id("command-row")
    await expect(rows.nth(1)).to_have_attribute("data-command-id", command_id)
    await expect(rows.nth(0)).to_have_attribute("data-status", "COMPLETED")
    await dashboard.get_by_test_id("jobs-by").fill("nobody")
    await expect(dashboard.get_by_text("No such job")).to_be_visible()
    await expect(rows).to_have_count(0)


async def test_output_can_only_be_seen(dashboard: Page, demo: Demo) -> None:
    hostile = r"\033]0;owned\007\033]8;;http://127.0.0.1/\033\\link\033]8;;\033\\\033[2J\033[3J\033[?1049h<img src=x>\n"
    await start(dashboard, demo, "printf", f"first\\n{hostile}")
    output = dashboard.get_by_test_id("command-output")
    await expect(output).to_contain_text("link<img src=x>")
    await expect(output).to_contain_text("first")
    await expect(output.locator("img, a")).to_have_count(0)
    assert "owned" not in await dashboard.title()
    assert await counted(dashboard, "stdout") == ["first", "link<img src=x>"]
    async with dashboard.expect_download() as downloading:
        await dashboard.get_by_test_id("download-stdout").click()
    saved = await asyncio.to_thread(Path(await (await downloading.value).path()).read_bytes)
    assert saved == b"first\n" + hostile.encode().decode("unicode_escape").encode()
    await dashboard.get_by_test_id("view-terminal").click()


async def test_a_job_for_a_machine_found_by_typing_is_refused_at_its_field(dashboard: Page, demo: Demo) -> None:
    await dashboard.evaluate("location.hash = '#/jobs'")
    await dashboard.get_by_test_id("job-new").click()
    form = dashboard.get_by_test_id("job-form")
    name = (await asked(demo, "agents:get", agentId=demo.written["agentId"]))["agent"]["name"]
    await form.get_by_test_id("job-machine").press_sequentially(name[:4])
    await form.get_by_test_id("machine-option").filter(has_text=name).filter(has_text="Active").click()
    await expect(form.get_by_test_id("job-machine")).to_have_value(re.compile(rf"^{re.escape(name)}( · |$)"))

    await choose(form, "kill")
    await form.get_by_test_id("command-run").click()
    await expect(form.get_by_role("alert")).to_contain_text("number of the process")
    await choose(form, "service")
    await form.get_by_test_id("service-name").fill("--no-such")
    await form.get_by_test_id("command-run").click()
    await expect(form.locator("label:has([data-testid=service-name])").get_by_role("alert")).to_be_visible()


async def test_a_script_is_sent_as_it_is_filled_in(dashboard: Page, demo: Demo) -> None:
    await dashboard.evaluate(f"location.hash = '#/machines/{demo.written['agentId']}'")
    form = dashboard.get_by_test_id("job-form")
    await choose(form, "script")
    script = 'echo "of $1 in $PLACE"\n'
    await form.get_by_test_id("script-file").set_input_files(
        {"name": "hello.bash", "mimeType": "text/plain", "buffer": script.encode()}
    )
    await expect(form.get_by_test_id("script-interpreter")).to_have_value("bash")
    await form.get_by_test_id("script-arguments").fill("'all of it'")
    await form.locator("summary").click()
    await form.get_by_test_id("variable-add").click()
    await form.get_by_test_id("variable-name").fill("PLACE")
    await form.get_by_test_id("variable-value").fill("its place")
    await form.get_by_test_id("command-timeout").fill("30")
    await form.get_by_test_id("job-wait").select_option("3600")
    await form.get_by_test_id("command-run").click()
    status = dashboard.get_by_test_id("command-status")
    command_id = await status.get_attribute("data-command-id")
    command = (await asked(demo, "commands:get", commandId=command_id))["command"]
    assert (command["commandType"], command["timeoutSec"]) == ("script", 30)
    sent = command["commandData"]
    assert (sent["interpreter"], sent["arguments"], sent["environment"]) == (
        "bash",
        ["all of it"],
        {"PLACE": "its place"},
    )


async def choose(form: Locator, action: str) -> None:
    await form.get_by_test_id(f"action-{action}").locator("xpath=..").click()


async def asked(demo: Demo, operation: str, **fields: Any) -> dict[str, Any]:
    async with demo.watching(await demo.sign_in()) as person:
        return await person.do(operation, **fields)
