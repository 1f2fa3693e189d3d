"""What each action comes to on the machine: programs by argv, found by the executor's own PATH."""

from __future__ import annotations

import asyncio
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_client.execution.verification import Rule
from protocol.actions import script_body
from protocol.enumerations import CommandOutcome, CommandReason
from protocol.frames import Command, CommandResult, CommandStarted
from tests.agent_client.clock import SteppingClock
from tests.agent_client.lives import FLEET, Life

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs jobs as somebody else")


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    tmp_path.chmod(0o700)
    life = Life(tmp_path, SteppingClock())
    yield life
    life.close()


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are looked for; they say how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, name: str, script: str = 'echo "$0" "$@"; echo "$DEBIAN_FRONTEND" >&2') -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


def order(action: str, *argv: str, job_id: str = "actions-1", **changes: Any) -> Command:
    return FLEET.command(FLEET.envelope(job_id, list(argv), action=action, **changes))


async def result_of(life: Life, command: Command) -> CommandResult:
    async with life.running():
        assert life.jobs.receive(command) is None
        result: CommandResult = await life.first(CommandResult)
    return result


def rule_of(life: Life, command: Command) -> str:
    refusal = life.jobs.receive(command)
    assert refusal is not None
    assert refusal.reason is CommandReason.DENIED_BY_AGENT
    return refusal.rule


async def test_a_script_runs_by_its_interpreter_with_arguments_and_is_gone_afterwards(
    life: Life, tmp_path: Path
) -> None:
    script = 'echo "$1|$2|$X"; stat -c %a "$0"; exit 4'
    result = await result_of(life, FLEET.script("actions-1", script, ["a b", "$(id)"], environment={"X": "`id`"}))
    assert life.output() == "a b|$(id)|`id`\n700\n"
    assert result.exit_code == 4
    assert list((tmp_path / "scripts").iterdir()) == []


async def test_a_script_that_was_accepted_before_a_crash_runs_in_the_next_life(tmp_path: Path) -> None:
    dead = Life(tmp_path, SteppingClock())
    dead.jobs.receive(FLEET.script("actions-1", "echo ran"))
    dead.close()
    (tmp_path / "scripts" / "of-nobody").write_text("x")
    life = Life(tmp_path, SteppingClock())
    async with life.running():
        assert (await life.first(CommandResult)).status is CommandOutcome.COMPLETED
    life.close()
    assert life.output() == "ran\n"
    assert list((tmp_path / "scripts").iterdir()) == []


async def test_a_script_that_was_changed_on_disk_does_not_run(life: Life, tmp_path: Path) -> None:
    life.jobs.receive(FLEET.script("actions-1", "echo ran"))
    (tmp_path / "scripts" / "actions-1").write_text("echo changed")
    async with life.running():
        result = await life.first(CommandResult)
    assert result.reason is CommandReason.START_FAILED
    assert "not the signed one" in result.result
    assert life.output() == ""


@pytest.mark.parametrize("body", [script_body(b"echo other"), "", "%%%"])
def test_another_script_than_the_signed_one_is_refused(life: Life, tmp_path: Path, body: str) -> None:
    swapped = msgspec.structs.replace(FLEET.script("actions-1", "echo ran"), script=body)
    assert rule_of(life, swapped) == Rule.SCRIPT
    assert not (tmp_path / "scripts").exists()


async def test_an_interpreter_the_machine_does_not_have_is_named(life: Life) -> None:
    result = await result_of(life, FLEET.script("actions-1", "x", interpreter="no-such-shell"))
    assert result.reason is CommandReason.START_FAILED
    assert "no-such-shell" in result.result


@as_root
@pytest.mark.parametrize("kind", ["exec", "script"])
async def test_a_job_runs_as_the_user_it_names_with_that_users_home_and_groups(
    life: Life, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda _name, group: [group, 4, 24])
    code = 'id -un; id -G; echo "$HOME $USER $LOGNAME"'
    command = (
        FLEET.script("actions-1", code, run_as="nobody")
        if kind == "script"
        else order("exec", "sh", "-c", code, run_as="nobody")
    )
    assert (await result_of(life, command)).exit_code == 0
    nobody = pwd.getpwnam("nobody")
    assert life.output() == f"nobody\n{nobody.pw_gid} 4 24\n{nobody.pw_dir} nobody nobody\n"


def test_an_unknown_user_or_one_that_we_may_not_become_is_refused(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rule_of(life, order("exec", "true", run_as="no-such-user")) == Rule.RUN_AS
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert rule_of(life, order("exec", "true", run_as="root")) == Rule.RUN_AS


async def test_a_service_is_named_behind_the_options(life: Life, bin_folder: Path) -> None:
    put(bin_folder, "systemctl")
    assert (await result_of(life, order("service", "restart", "nginx.service"))).exit_code == 0
    assert life.output().split()[1:] == ["--no-pager", "--no-ask-password", "restart", "--", "nginx.service"]


@pytest.mark.parametrize(
    ("manager", "argv", "said"),
    [
        ("apt-get", ["install", "htop", "g++"], "install -- htop g++"),
        ("apt-get", ["upgrade"], "upgrade"),
        ("apt-get", ["upgrade", "htop"], "install --only-upgrade -- htop"),
        ("dnf", ["remove", "htop"], "-y remove -- htop"),
        ("zypper", ["refresh"], "--non-interactive refresh"),
        ("apk", ["install", "htop"], "add -- htop"),
    ],
)
async def test_packages_are_the_work_of_the_manager_that_is_there_and_it_asks_nothing(
    life: Life, bin_folder: Path, manager: str, argv: list[str], said: str
) -> None:
    put(bin_folder, manager)
    await result_of(life, order("packages", *argv))
    first, _, asked = life.output().partition("\n")
    assert first.endswith(said)
    assert asked == "noninteractive\n"


@pytest.mark.usefixtures("bin_folder")
async def test_a_machine_without_a_package_manager_says_so(life: Life) -> None:
    result = await result_of(life, order("packages", "refresh"))
    assert result.reason is CommandReason.START_FAILED
    assert "apt-get" in result.result


@pytest.mark.parametrize(
    ("action", "argv"),
    [
        ("service", ["mask", "ssh"]),
        ("service", ["stop", "--now"]),
        ("service", ["stop"]),
        ("kill", ["1", "KILL"]),
        ("kill", ["-1", "KILL"]),
        ("packages", ["install", "-o"]),
        ("reboot", ["soon"]),
        ("exec", []),
    ],
)
def test_a_signed_order_whose_arguments_are_none_is_refused(life: Life, action: str, argv: list[str]) -> None:
    assert rule_of(life, order(action, *argv)) == Rule.MALFORMED


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": {"LD_PRELOAD": "/tmp/x.so"}},
        {"working_directory": "/"},
        {"run_as": "root"},
        {"interpreter": "sh"},
    ],
)
@pytest.mark.parametrize(("action", "argv"), [("service", ["status", "ssh"]), ("packages", ["refresh"])])
def test_a_signed_order_for_what_a_person_cannot_ask_of_the_action_is_refused(
    life: Life, action: str, argv: list[str], changes: dict[str, Any]
) -> None:
    """A policy that allows the action alone would let it run anything."""
    assert rule_of(life, order(action, *argv, **changes)) == Rule.MALFORMED


@contextmanager
def two_tools() -> Iterator[str]:
    """Yield a PATH on which the first program of that name is for root alone, and the second for everybody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for place, mode in (("first", 0o700), ("second", 0o755)):
            (folder / place).mkdir(mode=0o755)
            put(folder / place, "tool", "echo ran")
            (folder / place / "tool").chmod(mode)
        yield f"{folder}/first:{folder}/second:{os.environ['PATH']}"


@as_root
async def test_of_two_programs_of_a_name_the_first_runs_or_none(life: Life) -> None:
    """The machine's policy was asked about the first."""
    with two_tools() as paths:
        result = await result_of(life, order("exec", "tool", environment={"PATH": paths}, run_as="nobody"))
    assert result.reason is CommandReason.START_FAILED
    assert life.output() == ""


async def test_a_signal_reaches_the_process_it_names_and_never_the_agent(life: Life) -> None:
    victim = await asyncio.create_subprocess_exec("sleep", "60")
    async with life.running():
        life.jobs.receive(order("kill", str(victim.pid), "TERM"))
        assert (await life.first(CommandResult)).status is CommandOutcome.COMPLETED
        assert await victim.wait() == -15
        for number, pid in enumerate((victim.pid, os.getpid()), start=2):
            life.jobs.receive(order("kill", str(pid), "KILL", job_id=f"actions-{number}"))
        results = [await life.first(CommandResult, number) for number in (2, 3)]
    assert {result.reason for result in results} == {CommandReason.START_FAILED}


async def test_a_reboot_is_told_before_it_happens(life: Life, bin_folder: Path, tmp_path: Path) -> None:
    for name in ("systemctl", "shutdown"):
        put(bin_folder, name, f'echo "$0" > {tmp_path}/rebooted')
    async with life.running():
        life.jobs.receive(order("reboot", "0"))
        result = await life.first(CommandResult)
        assert result.status is CommandOutcome.COMPLETED
        assert not (tmp_path / "rebooted").exists()
        life.jobs.settled("actions-1")
        async with asyncio.timeout(10):
            while not (tmp_path / "rebooted").exists():  # noqa: ASYNC110  a file has no event
                await asyncio.sleep(0.01)


async def test_a_reboot_can_be_cancelled_while_it_waits(life: Life, bin_folder: Path, tmp_path: Path) -> None:
    for name in ("systemctl", "shutdown"):
        put(bin_folder, name, f'echo "$0" > {tmp_path}/rebooted')
    async with life.running():
        life.jobs.receive(order("reboot", "3600"))
        await life.first(CommandStarted)
        life.jobs.cancel("actions-1")
        assert (await life.first(CommandResult)).status is CommandOutcome.CANCELLED
        life.jobs.settled("actions-1")
    assert not (tmp_path / "rebooted").exists()


def test_scripts_are_for_the_executor_alone(life: Life, tmp_path: Path) -> None:
    life.jobs.receive(FLEET.script("actions-1", "echo ran"))
    assert stat.S_IMODE((tmp_path / "scripts" / "actions-1").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "scripts").stat().st_mode) == 0o700
