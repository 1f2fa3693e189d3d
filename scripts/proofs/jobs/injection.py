"""Text of people never reaches a shell unless the action is the shell: what a program gets is what was typed."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Final

from scripts.proofs.jobs.site import Site, job_site
from scripts.proofs.report import Report

TELL: Final = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ.get('TEXT'), os.getcwd()]))"


def hostile(trace: Path) -> list[str]:
    """Return texts each of which would make `trace` in some shell."""
    touch = f"touch {trace}"
    return [
        f"; {touch}",
        f"&& {touch}",
        f"|| {touch}",
        f"| {touch}",
        f"& {touch} &",
        f"$({touch})",
        f"`{touch}`",
        f"\n{touch}\n",
        f"\r\n{touch}",
        f"'; {touch}; '",
        f'"; {touch}; "',
        f"${{IFS}}{touch}",
        f"> {trace}",
        f">> {trace}",
        f"<({touch})",
        f"%s; {touch}",
        "*",
        "~",
        "$HOME",
        "-c",
        "--help",
        f"\\; {touch}",
        f"{{a,b}}; {touch}",
        f"!{touch}",
        "\u202e; " + touch,
    ]


async def show(report: Report) -> None:
    if not report.wants("injection"):
        return
    async with job_site() as site:
        for words, step in LINES.items():
            await report.show(f"injection: {words}", partial(step, site))


async def arguments_and_environment(site: Site, every: int = 1) -> str:
    """`every`: each so-manyth text is also tried in the environment and as a folder."""
    trace = site.folder / "injected"
    texts = hostile(trace)
    command_id = await site.order(sys.executable, "-c", TELL, *texts)
    assert (await site.reached(command_id))["status"] == "COMPLETED"
    assert json.loads(await site.output(command_id))[0] == texts
    for text in texts[::every]:
        folder = site.folder / ("d" + text.replace("/", "_").replace("\n", "n").replace("\r", "r"))
        folder.mkdir()
        data = {"argv": [sys.executable, "-c", TELL], "environment": {"TEXT": text}, "workingDirectory": str(folder)}
        created = await site.do("commands:create", agentId=site.agent.agent_id, commandData=data)
        command_id = created["command"]["id"]
        assert (await site.reached(command_id))["status"] == "COMPLETED"
        assert json.loads(await site.output(command_id))[1:] == [text, str(folder)]
    assert not trace.exists()
    return f"{len(texts)} texts as argument, in the environment and in the working folder: all arrived as they are"


async def programs(site: Site) -> str:
    trace = site.folder / "injected-program"
    texts = hostile(trace)
    for text in texts:
        found = await site.reached(await site.order(f"true {text}"))
        assert (found["status"], found["reason"]) == ("FAILED", "start_failed"), found
    assert not trace.exists()
    return f"{len(texts)} texts as program: none was one"


async def names(site: Site) -> str:
    """Names of services and packages, users and interpreters are refused by the hub before anything is signed."""
    trace = site.folder / "injected-name"
    refused = 0
    for text in hostile(trace):
        for kind, data in (
            ("service", {"verb": "status", "name": text}),
            ("packages", {"verb": "install", "names": [text]}),
            ("script", {"script": "true", "interpreter": text}),
            ("exec", {"argv": ["true"], "runAs": text}),
        ):
            person = await site.person()
            reply = await person.ask("commands:create", agentId=site.agent.agent_id, commandType=kind, commandData=data)
            assert not reply["ok"], (kind, text, reply)
            assert reply["error"]["code"] == "invalid_request", reply
            refused += 1
    assert not trace.exists()
    return f"{refused} names with shell characters refused, none signed"


async def shell_is_a_shell(site: Site) -> str:
    """The one place where a text is a program: the action `script`."""
    trace = site.folder / "asked-for"
    created = await site.do(
        "commands:create",
        agentId=site.agent.agent_id,
        commandType="script",
        commandData={"script": f"touch '{trace}' && echo done", "interpreter": "sh"},
    )
    found = await site.reached(created["command"]["id"])
    assert found["status"] == "COMPLETED", found
    assert trace.exists()
    return "a script ran as one"


LINES: Final = {
    "arguments, environment and folders with shell characters arrive as they are": arguments_and_environment,
    "a program's name with shell characters is a name": programs,
    "names of services, packages, interpreters and users are no shell text": names,
    "a script is one, for that is the action": shell_is_a_shell,
}
