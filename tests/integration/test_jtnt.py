"""`jtnt` in this process, on a real hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from msgspec import structs

from hub_server.operator.address import fingerprint_of
from hub_server.operator.cli.arguments import parsed
from hub_server.operator.cli.main import obeyed
from hub_server.operator.client import Operator
from hub_server.operator.doors import SignedIn, SignInDoor
from hub_server.operator.errors import NotTrusted
from hub_server.operator.saved import HubBook, SavedSignIn, config_folder
from protocol.enumerations import CommandOutcome, CommandReason
from protocol.frames import Command, CommandStarted
from tests.integration.hub import ADMINISTRATOR, PASSWORD, RunningHub, running_hub
from tests.integration.machine import Identity, greeted, now_ms
from tests.integration.operated import ERR, OUT, begin, finish, joined, write
from tests.integration.person import watching
from tests.servers.postgres import free_port
from tests.system.programs import enrolled


@pytest.fixture(scope="module")
async def own_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """On ports that are known before it starts: an agent is told the address at enrollment."""
    folder = tmp_path_factory.mktemp("operated")
    async with running_hub(folder, people_port=free_port(), agents_port=free_port()) as running:
        yield running


@pytest.fixture(scope="module")
async def machine(own_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return await joined(own_hub, tmp_path_factory.mktemp("machine"), "web-1")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Jtnt = Callable[..., Coroutine[None, None, Outcome]]


@pytest.fixture
def jtnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Jtnt:
    """Runs a command of `jtnt` in this process, with a home of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JTNT_HUB", raising=False)

    async def called(*arguments: str) -> Outcome:
        code = await obeyed(parsed(arguments))
        return Outcome(code, *capsys.readouterr())

    return called


@pytest.fixture
async def signed_in(own_hub: RunningHub, jtnt: Jtnt, monkeypatch: pytest.MonkeyPatch) -> Jtnt:
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", Typed(PASSWORD))
        outcome = await jtnt("login", own_hub.web_url, "--username", ADMINISTRATOR, "--password-stdin")
    assert outcome == (0, f"Signed in to {own_hub.web_url} as ada.\n", "")
    return jtnt


class Typed:
    """Standard input of nobody at a terminal."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def readline(self) -> str:
        return f"{self._lines.pop(0)}\n" if self._lines else ""

    def isatty(self) -> bool:
        return False


async def test_jtnt_runs_a_job_and_ends_as_it_does(own_hub: RunningHub, machine: Identity, signed_in: Jtnt) -> None:
    async with greeted(own_hub, machine) as agent, asyncio.TaskGroup() as tasks:
        options = ("--env", "A=b=c", "--cwd", "/", "--reason", "ticket 7")
        running = tasks.create_task(signed_in("run", "web-1", *options, "--", "id", "--help"))
        order = await agent.take(Command)
        assert order.command_data == {"argv": ["id", "--help"], "environment": {"A": "b=c"}, "workingDirectory": "/"}
        await agent.send(CommandStarted(command_id=order.command_id, ts=now_ms()))
        await write(agent, order.command_id, OUT, 0, "root\x1b[2J\n")
        await write(agent, order.command_id, ERR, 0, "oh\n")
        await finish(agent, order.command_id, CommandOutcome.FAILED, 7, CommandReason.EXIT_CODE)
    assert running.result() == (7, "root\x1b[2J\n", "oh\n")
    shown = await signed_in("job", order.command_id)
    assert "id --help" in shown.out
    assert "FAILED (exit_code)" in shown.out
    assert await signed_in("job", order.command_id, "--output") == (0, "root\x1b[2J\n", "oh\n")
    watched = await signed_in("watch", order.command_id, "--json")
    events = [json.loads(line) for line in watched.out.splitlines()]
    assert (watched.code, [event["event"] for event in events]) == (7, ["job", "output", "output", "result"])
    assert {event["agent"] for event in events} == {"web-1"}
    listed = json.loads((await signed_in("jobs", "--agent", "web-1", "--json")).out)
    assert listed["commands"][0]["id"] == order.command_id
    async with watching(own_hub, await own_hub.sign_in()) as person:
        [audited] = (await person.do("audit:search", target=f"command:{order.command_id}"))["entries"]
    assert audited["detail"]["reason"] == "ticket 7"
    table = await signed_in("jobs", "--status", "failed")
    beginning = next(line for line in table.out.splitlines() if "id --help" in line).split()[0]
    assert order.command_id.startswith(beginning)
    assert (await signed_in("job", beginning)).out == shown.out
    assert (await signed_in("jobs", beginning)).out == shown.out
    for nothing in (beginning[:4], "no job", ""):
        assert "`jtnt jobs` lists them" in (await signed_in("job", nothing)).err


async def test_jtnt_runs_a_script_on_several_machines_and_says_whose_line_is_whose(
    own_hub: RunningHub, machine: Identity, signed_in: Jtnt, folder: Path
) -> None:
    other = await joined(own_hub, folder, "web-2")
    (folder / "check.sh").write_text("echo $1\n")
    async with greeted(own_hub, machine) as first, greeted(own_hub, other) as second, asyncio.TaskGroup() as tasks:
        arguments = ("run", "web-1", other.agent_id, "--script", str(folder / "check.sh"), "--interpreter", "bash")
        running = tasks.create_task(signed_in(*arguments, "--", "-v"))
        for agent, code in ((first, 0), (second, 4)):
            command_id = await begin(agent)
            await write(agent, command_id, OUT, 0, "fine")
            await finish(agent, command_id, CommandOutcome.COMPLETED if code == 0 else CommandOutcome.FAILED, code)
    outcome = running.result()
    assert (outcome.code, sorted(outcome.out.splitlines())) == (1, ["web-1 | fine", "web-2 | fine"])


async def test_jtnt_orders_nothing_that_is_not_waited_for_and_lists_and_cancels_it(
    machine: Identity, signed_in: Jtnt
) -> None:
    ordered = await signed_in("run", "web-1", "--no-wait", "--expires", "1h", "--", "true")
    assert "the order waits 1h for it" in ordered.err
    assert (ordered.code, "it is away" in ordered.err) == (0, True)
    command_id = ordered.out.strip()
    assert "PENDING" in (await signed_in("jobs")).out
    cancelled = await signed_in("cancel", command_id, "--json")
    assert json.loads(cancelled.out)["status"] == "CANCELLED"
    assert await signed_in("watch", command_id) == (130, "", f"jtnt: {command_id}: it was cancelled\n")
    lost = await signed_in("watch", "no-such-job")
    assert (lost.code, "no" in lost.err) == (125, True)


async def test_what_a_policy_demands_is_said_with_the_option_that_gives_it(
    own_hub: RunningHub, machine: Identity, signed_in: Jtnt
) -> None:
    async with watching(own_hub, await own_hub.sign_in()) as person:
        terms = {"name": "Say why", "commands": {"reasonRequired": True}}
        policy = (await person.do("policies:create", terms=terms))["policy"]
        try:
            refused = await signed_in("run", "web-1", "--no-wait", "--", "true")
            given = await signed_in("run", "web-1", "--no-wait", "--reason", "ticket 7", "--", "true")
        finally:
            await person.do("policies:delete", policyId=policy["id"])
    assert (refused.code, "Say why" in refused.err, "(--reason)" in refused.err) == (125, True, True)
    assert given.code == 0
    assert (await signed_in("cancel", given.out.strip())).code == 0


async def test_jtnt_lists_machines(machine: Identity, signed_in: Jtnt) -> None:
    table = await signed_in("agents", "web-1")
    assert table.code == 0
    titles, line = table.out.splitlines()[:2]
    assert titles.split() == ["NAME", "STATUS", "REASON", "SITE", "TAGS", "VERSION", "ID"]
    assert line.split()[0] == "web-1"
    assert line.split()[-1] == machine.agent_id
    document = json.loads((await signed_in("agents", "--status", "offline", "--json")).out)
    assert document["total"] == len(document["agents"])
    assert (await signed_in("agents", "--status", "asleep")).code == 2
    assert (await signed_in("run", "nobody", "--", "true")).code == 2
    called = [machine.agent_id[:8], machine.agent_id[:7], "0" * 8]
    assert [(await signed_in("jobs", "--agent", each)).code for each in called] == [0, 2, 2]
    assert (await signed_in("agents", "--tag", "no-such-tag")).out == "No machine is like this.\n"


async def test_a_sign_in_ends_and_says_so(own_hub: RunningHub, signed_in: Jtnt, jtnt: Jtnt) -> None:
    assert (await signed_in("logout")).code == 0
    refused = await signed_in("agents")
    assert (refused.code, "jtnt login" in refused.err) == (4, True)
    assert (await signed_in("logout")).out.startswith("You are not signed in")


async def test_a_wrong_password_and_a_key_in_place_of_a_sign_in(
    own_hub: RunningHub, machine: Identity, jtnt: Jtnt, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await jtnt("agents")).code == 4
    monkeypatch.setattr("sys.stdin", Typed("wrong password"))
    refused = await jtnt("login", own_hub.web_url, "--username", "nobody", "--password-stdin")
    assert (refused.code, "wrong" in refused.err) == (4, True)
    async with watching(own_hub, await own_hub.sign_in()) as person:
        key = (await person.do("api-keys:create", name="script", role="viewer"))["keyText"]
    monkeypatch.setenv("JTNT_TOKEN", key)
    monkeypatch.setenv("JTNT_HUB", own_hub.web_url)
    assert (await jtnt("agents")).code == 0
    denied = await jtnt("run", "web-1", "--", "true")
    assert (denied.code, denied.out) == (125, "")


async def test_several_programs_renew_one_sign_in_once(
    signed_in: Jtnt, own_hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = HubBook(config_folder())
    hub = book.find(own_hub.web_url)
    assert hub is not None
    book.save(structs.replace(hub, access_token="spent", access_expires_at=0.0), is_current=True)
    refreshed: list[str] = []
    refresh = SignInDoor.refresh

    def counted(door: SignInDoor, cookie: str) -> SignedIn:
        refreshed.append(cookie)
        return refresh(door, cookie)

    monkeypatch.setattr(SignInDoor, "refresh", counted)
    tokens = await asyncio.gather(*(SavedSignIn(book, hub).token() for _ in range(4)))
    assert (len({token.text for token in tokens}), refreshed) == (1, [hub.refresh_cookie])
    async with Operator.connect(own_hub.web_url, token=SavedSignIn(book, hub)):
        pass
    assert (await signed_in("agents", "--json")).code == 0


async def test_a_hubs_own_certificate_is_trusted_by_its_fingerprint_and_no_other(
    folder: Path, jtnt: Jtnt, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, authority = folder / "web.pem", trustme.CA()
    leaf = authority.issue_cert("somewhere.else")
    leaf.private_key_and_cert_chain_pem.write_to_path(pem)
    async with running_hub(folder / "hub", people={"certificate": pem, "key": pem}) as hub:
        url = hub.web_url.replace("http://", "https://")
        login = ("login", url, "--username", ADMINISTRATOR, "--password-stdin")
        fingerprint = fingerprint_of(leaf.cert_chain_pems[0].bytes().decode())

        async def log_in(*options: str) -> Outcome:
            monkeypatch.setattr("sys.stdin", Typed(PASSWORD))
            return await jtnt(*login, *options)

        shown = await log_in()
        assert (shown.code, fingerprint in shown.err) == (3, True)
        assert (await log_in("--fingerprint", "00" * 32)).code == 3
        assert (await log_in("--fingerprint", fingerprint.lower().replace(":", ""))).code == 0
        assert (await jtnt("agents")).code == 0
        book = HubBook(config_folder())
        saved = book.find(url)
        assert saved is not None
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
        assert "somebody may stand between" in (await log_in()).err
        with pytest.raises(NotTrusted, match="another certificate"):
            async with Operator.connect(url, token="x", anchors=saved.anchors):
                pass
        (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
        assert (await jtnt("agents", "--ca", str(folder / "ca.pem"))).code == 0


async def test_a_real_agent_runs_what_jtnt_orders(own_hub: RunningHub, signed_in: Jtnt, tmp_path: Path) -> None:
    port = own_hub.agent_url.rpartition(":")[2]
    async with enrolled(tmp_path / "agent", f"jtnt://127.0.0.1:{port}/#{await own_hub.mint()}") as agent:
        await agent.start()
        script = "echo out; echo err >&2; printf '%s' \"$A\"; exit 5"
        ran = await signed_in("run", agent.agent_id, "--env", "A=b c", "--", "sh", "-c", script)
        assert (ran.code, ran.out, ran.err.splitlines()[-1:]) == (5, "out\nb c", ["err"])
        missing = await signed_in("run", agent.agent_id, "--", "/nowhere/at-all")
        assert (missing.code, missing.out) == (126, "")
        slow = await signed_in("run", agent.agent_id, "--timeout", "1s", "--", "sleep", "60")
        assert (slow.code, "timeout" in slow.err) == (124, True)
