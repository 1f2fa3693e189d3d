"""The machine's own policy: its reading, its ownership, and what it allows."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent_client.cli import main
from agent_client.execution.decision import Denied, Rule
from agent_client.execution.jobs import JobBounds, Jobs
from agent_client.execution.journal import Journal
from agent_client.execution.terms import Terms
from agent_client.execution.verification import Audience
from agent_client.paths import Places
from agent_client.policy.file import NoPolicy, PolicyFile, PolicyState, Unusable
from agent_client.policy.report import policy_lines
from agent_client.policy.surroundings import circumstances, found_program, own_user
from agent_client.policy.terms import BadPolicy, Policy, policy_of
from agent_client.policy.verdict import Circumstances, policy_refusal
from agent_client.policy.windows import DAYS, BadWindow, window_of
from agent_client.spool.database import Database
from agent_client.trust.document import parse_trust
from protocol.enumerations import Action
from protocol.envelope import JobEnvelope
from tests.agent_client.clock import DrivenClock, SteppingClock
from tests.agent_client.fleet import AGENT, ORGANISATION, Fleet

FLEET = Fleet()
HASH = "ab" * 32
MONDAY = datetime(2026, 11, 23, 12, 0)  # noqa: DTZ001  local time has no zone here


def policy(**jobs: Any) -> Policy:
    return policy_of({"jobs": jobs}, "/etc/jtnt/policy.toml")


def order(argv: list[str] | None = None, **changes: Any) -> JobEnvelope:
    return FLEET.envelope("job-1", ["/usr/bin/uptime"] if argv is None else argv, **changes)


def script(**changes: Any) -> JobEnvelope:
    return order([], **{"action": "script", "script_sha256": HASH, "interpreter": "sh"} | changes)


def rule(envelope: JobEnvelope, state: PolicyState, **around: Any) -> Rule | None:
    values: dict[str, Any] = {"local_now": MONDAY, "own_user": "root", "find_program": found_program}
    denied = policy_refusal(envelope, Circumstances(state=state, **values | around))
    if denied is None:
        return None
    assert isinstance(denied, Denied)
    assert isinstance(state, Unusable) or "jtnt/policy.toml" in denied.message, denied
    return denied.rule


def test_without_a_file_everything_may_run_and_with_a_bad_one_nothing() -> None:
    assert rule(order(), NoPolicy()) is None
    assert rule(order(), Unusable("somebody could change it")) is Rule.POLICY
    assert rule(order(["anything"]), policy()) is None


def test_actions_are_those_that_are_listed() -> None:
    assert rule(order(), policy(actions=["exec", "service"])) is None
    assert rule(order([], action="reboot"), policy(actions=["exec"])) is Rule.POLICY_ACTION
    assert rule(order(), policy(actions=[])) is Rule.POLICY_ACTION


def test_lists_of_programs_or_scripts_alone_allow_just_them() -> None:
    for action in ("service", "kill", "packages", "reboot", "agent:restart"):
        assert rule(order([], action=action), policy(programs=["/usr/bin/uptime"])) is Rule.POLICY_ACTION
    assert rule(script(), policy(programs=["/usr/bin/uptime"])) is Rule.POLICY_ACTION
    assert rule(order(), policy(script_sha256=[HASH])) is Rule.POLICY_ACTION
    assert rule(script(), policy(programs=[], actions=["script"])) is None


@pytest.mark.parametrize(
    ("argv", "allowed"),
    [
        (["/usr/bin/uptime", "-p"], True),
        (["uptime"], True),
        (["/usr/bin/../bin/uptime"], False),
        (["./uptime"], False),
        (["bin/uptime"], False),
        (["/usr/bin/uptime\n"], False),
        (["/bin/sh"], False),
        (["sh"], False),
        ([""], False),
        ([], False),
    ],
)
def test_programs_are_allowed_by_the_path_they_are_run_at(
    argv: list[str], allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uptime").write_text("#!/bin/sh\n")
    (tmp_path / "uptime").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    programs = ["/usr/bin/uptime", str(tmp_path / "uptime")]
    assert (rule(order(argv), policy(programs=programs)) is None) is allowed


def test_no_variable_makes_another_program_of_the_one_that_is_allowed(tmp_path: Path) -> None:
    own = tmp_path / "uptime"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    elsewhere = {"PATH": str(tmp_path)}
    assert rule(order(["uptime"], environment=elsewhere), policy(programs=["/usr/bin/uptime"])) is Rule.POLICY_PROGRAM
    for variables in ({"LD_PRELOAD": "/tmp/x.so"}, {"PATH": "/usr/bin"}):
        assert rule(order(environment=variables), policy(programs=["/usr/bin/uptime"])) is Rule.POLICY_ENVIRONMENT
        assert rule(script(environment=variables), policy(script_sha256=[HASH])) is Rule.POLICY_ENVIRONMENT
        assert rule(order(environment=variables), policy()) is None
    named = policy(programs=["/usr/bin/uptime"], environment=["LANG"])
    assert rule(order(environment={"LANG": "C"}), named) is None
    assert rule(order(environment={"LANG": "C", "A": "b"}), named) is Rule.POLICY_ENVIRONMENT


def test_scripts_are_allowed_by_hash_and_interpreter() -> None:
    assert rule(script(), policy(script_sha256=[HASH.upper()])) is None
    assert rule(script(interpreter=None), policy(script_sha256=[HASH])) is None
    assert rule(script(interpreter="python3"), policy(script_sha256=[HASH])) is Rule.POLICY_SCRIPT
    assert rule(script(interpreter="python3"), policy(script_sha256=[f"{HASH} python3"])) is None
    assert rule(script(), policy(script_sha256=[f"{HASH} python3"])) is Rule.POLICY_SCRIPT
    assert rule(script(script_sha256="cd" * 32), policy(script_sha256=[HASH])) is Rule.POLICY_SCRIPT
    assert rule(script(script_sha256=None), policy(script_sha256=[HASH])) is Rule.POLICY_SCRIPT


def test_users_are_those_that_are_listed_the_executors_own_too() -> None:
    assert rule(order(run_as="nobody"), policy(run_as=["nobody"])) is None
    assert rule(order(), policy(run_as=["nobody"])) is Rule.POLICY_RUN_AS
    assert rule(order(), policy(run_as=["root"])) is None
    assert rule(order(run_as="root"), policy(run_as=["nobody"]), own_user="nobody") is Rule.POLICY_RUN_AS
    assert rule(order(), policy(run_as=["nobody"]), own_user="") is Rule.POLICY_RUN_AS
    assert own_user() == Path("/proc/self").owner()


def at(text: str) -> datetime:
    """Return a moment of the week of MONDAY: `Tue 03:15`."""
    day, hour, minute = DAYS.index(text[:3]), int(text[4:6]), int(text[7:])
    return MONDAY.replace(day=MONDAY.day + day, hour=hour, minute=minute)


@pytest.mark.parametrize(
    ("window", "within", "outside"),
    [
        ("Mon-Fri 08:00-18:00", ["Mon 08:00", "Fri 17:59"], ["Mon 07:59", "Fri 18:00", "Sat 12:00", "Sun 12:00"]),
        ("Sat,Sun 00:00-24:00", ["Sat 00:00", "Sun 23:59"], ["Mon 00:00", "Fri 23:59"]),
        ("Fri 22:00-06:00", ["Fri 22:00", "Fri 23:59", "Sat 05:59"], ["Fri 05:59", "Sat 06:00", "Sat 22:00"]),
        ("Sun 22:00-06:00", ["Sun 23:00", "Mon 05:00"], ["Sun 05:00", "Tue 05:00"]),
        ("fri-mon,WED 10:00-11:00", ["Fri 10:30", "Sun 10:30", "Mon 10:30", "Wed 10:30"], ["Tue 10:30", "Thu 10:30"]),
    ],
)
def test_hours_are_local_and_may_go_over_midnight(window: str, within: list[str], outside: list[str]) -> None:
    assert [text for text in (*within, *outside) if window_of(window).holds(at(text))] == within
    held = policy(windows=[window])
    assert [text for text in (*within, *outside) if rule(order(), held, local_now=at(text)) is None] == within


def test_several_windows_add_up_and_none_is_never() -> None:
    both = policy(windows=["Mon 08:00-09:00", "Tue 08:00-09:00"])
    assert rule(order(), both, local_now=at("Tue 08:30")) is None
    assert rule(order(), both, local_now=at("Wed 08:30")) is Rule.POLICY_WINDOW
    assert rule(order(), policy(windows=[])) is Rule.POLICY_WINDOW


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Mon",
        "08:00-09:00",
        "Mon 8:00-9:00",
        "Mon 08:00-08:00",
        "Mon 24:00-08:00",
        "Mon 08:60-09:00",
        "Mon 08:00-24:01",
        "Moo 08:00-09:00",
        "Mon- 08:00-09:00",
        "Mon,, 08:00-09:00",
    ],
)
def test_what_names_no_hours_is_refused(text: str) -> None:
    with pytest.raises(BadWindow, match=r"`Mon-Fri|00:00-24:00|no time of a day"):
        window_of(text)


def test_the_rate_counts_the_last_hour_also_after_a_restart_and_a_clock_that_went_back(tmp_path: Path) -> None:
    clock = DrivenClock()
    limited = policy(per_hour=2)

    def asked(journal: Journal) -> Rule | None:
        around = circumstances(limited, now_ms=clock.now_ms(), accepted_last_hour=journal.accepted_last_hour)
        return rule(order(), limited, accepted_last_hour=around.accepted_last_hour)

    for number, before in enumerate([None, None, Rule.POLICY_RATE]):
        database = Database(tmp_path / "spool.db")
        journal = Journal(database, clock)
        assert asked(journal) is before
        envelope = FLEET.envelope(f"job-{number}", ["true"], issued_at=clock.now_ms(), expires_at=clock.now_ms() + 1)
        journal.accept(envelope, b"payload")
        database.close()
    database = Database(tmp_path / "spool.db")
    clock.advance(-86400)
    assert asked(Journal(database, clock)) is Rule.POLICY_RATE
    clock.advance(86400 + 3601)
    assert asked(Journal(database, clock)) is None
    database.close()


def test_surroundings_are_looked_at_where_there_is_a_policy() -> None:
    def counted() -> int:
        raise AssertionError("nobody asked for it")

    assert circumstances(NoPolicy(), now_ms=0, accepted_last_hour=counted).own_user == ""
    around = circumstances(policy(actions=[]), now_ms=0, accepted_last_hour=counted)
    assert (around.own_user, around.local_now.utcoffset() is not None) == (own_user(), True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "jobs"),
        ({"jobs": {}, "job": {}}, "job"),
        ({"jobs": {"action": ["exec"]}}, "action"),
        ({"jobs": {"actions": ["sudo"]}}, "jobs.actions"),
        ({"jobs": {"actions": "exec"}}, "jobs.actions"),
        ({"jobs": {"programs": ["uptime"]}}, "jobs.programs"),
        ({"jobs": {"script_sha256": ["abc"]}}, "jobs.script_sha256"),
        ({"jobs": {"windows": ["always"]}}, "jobs.windows"),
        ({"jobs": {"per_hour": -1}}, "jobs.per_hour"),
        ({"jobs": {"signatures": "operator"}}, "jobs.signatures"),
        ({"jobs": {"operator_keys": ["mfrggzdfmztwq2lk"]}}, "jobs.operator_keys"),
        ({"jobs": {"signatures": "hub+operator", "operator_keys": ["ada"]}}, "jobs.operator_keys"),
    ],
)
def test_a_policy_that_cannot_be_read_says_which_key(content: dict[str, Any], said: str) -> None:
    with pytest.raises(BadPolicy, match=said.replace(".", r"\.")):
        policy_of(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only this user can change, as pytest's are."""
    folder = tmp_path / "jtnt"
    folder.mkdir(mode=0o755)
    return folder


def written(folder: Path, text: str = '[jobs]\nactions = ["exec"]\n', mode: int = 0o644) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_counts_from_the_next_job_on(folder: Path) -> None:
    file = PolicyFile(folder / "policy.toml")
    assert file.current() == NoPolicy()
    path = written(folder)
    assert rule(order([], action="reboot"), file.current()) is not None
    before = path.stat()
    path.write_text('[jobs]\nactions = ["kill"]\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    state = file.current()
    assert isinstance(state, Policy)
    assert state.actions == frozenset({Action.KILL})
    path.unlink()
    assert file.current() == NoPolicy()


@pytest.mark.parametrize(
    "what", ["file", "folder", "owner", "link", "dangling", "text", "toml", "key", "huge", "folder in its place"]
)
def test_one_that_others_could_change_or_nobody_can_read_lets_nothing_run(folder: Path, what: str) -> None:
    path = written(folder)
    match what:
        case "file":
            path.chmod(0o664)
        case "folder":
            folder.chmod(0o777)
        case "owner":
            if os.geteuid() != 0:
                pytest.skip("only root gives files away")
            os.chown(path, 65534, 65534)
        case "link":
            open_to_all = folder.parent / "open"
            open_to_all.mkdir()
            open_to_all.chmod(0o777)
            path.rename(open_to_all / "policy.toml")
            path.symlink_to(open_to_all / "policy.toml")
        case "dangling":
            path.unlink()
            path.symlink_to(folder / "nowhere")
        case "text":
            path.write_bytes(b"\xff\xfe")
        case "toml":
            path.write_text("[jobs")
        case "key":
            path.write_text("[jobs]\nprogram = []\n")
        case "huge":
            path.write_text("#" * 300_000)
        case _:
            path.unlink()
            path.mkdir()
    state = PolicyFile(path).current()
    assert isinstance(state, Unusable), state
    assert str(folder.parent) in state.message
    assert rule(order(), state) is Rule.POLICY


def test_a_path_that_others_could_have_chosen_lets_nothing_run(folder: Path) -> None:
    chooser = folder / "config.json"
    chooser.write_text("{}")
    chooser.chmod(0o666)
    assert isinstance(PolicyFile(folder / "absent.toml", chooser).current(), Unusable)
    chooser.chmod(0o600)
    assert isinstance(PolicyFile(written(folder), chooser).current(), Policy)


def test_the_check_shows_what_holds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = Places.inside(tmp_path / "agent")
    FLEET.enroll_by_hand(places, 1, policy_file=str(folder / "policy.toml"))
    check = ["policy", "check", "--data-dir", str(places.state)]
    assert main(check) == 78
    assert "policy.toml as the policy, and there is none" in capsys.readouterr().out
    assert "whatever the hub's signer signs may run" in policy_lines(NoPolicy(), folder)[0]
    written(folder, '[jobs]\nprograms = ["/usr/bin/uptime"]\nsignatures = "hub+operator"\nper_hour = 3\n')
    assert main(check) == 0
    said = capsys.readouterr().out
    for words in (
        "in force",
        "actions       exec",
        "/usr/bin/uptime",
        "per hour      3",
        "a person",
        "scripts       none: script is not among the actions",
        "environment   none",
    ):
        assert words in said
    written(folder, mode=0o666)
    assert main([*check, "--json"]) == 78
    report = json.loads(capsys.readouterr().out)
    assert (report["usable"], report["path"]) == (False, str(folder / "policy.toml"))
    assert "chmod go-w" in report["lines"][0]


def test_what_its_author_may_not_have_meant_is_said(folder: Path) -> None:
    def notes(**jobs: Any) -> str:
        return "\n".join(line for line in policy_lines(policy(**jobs), folder) if line.startswith("note"))

    assert "any script may run" in notes(programs=["/a"], actions=["exec", "script"])
    assert "any program may run" in notes(script_sha256=[HASH], actions=["exec", "script"])
    assert "lacks exec" in notes(programs=["/a"], actions=["kill"])
    assert "sh alone" in notes(script_sha256=[HASH])
    assert notes(programs=["/a"]) == ""


async def test_jobs_are_held_against_the_policy_and_the_journals_count(folder: Path, tmp_path: Path) -> None:
    database, clock = Database(tmp_path / "spool.db"), SteppingClock()
    file = PolicyFile(written(folder, '[jobs]\nprograms = ["/usr/bin/true"]\nper_hour = 1\n'))

    def terms() -> Terms:
        return Terms(Audience(ORGANISATION, AGENT), parse_trust(FLEET.trust()), frozenset({"exec"}), file.current())

    bounds = JobBounds(running_max=1, kill_grace_seconds=0.2)
    jobs = Jobs(Journal(database, clock), terms, clock, tmp_path / "jobs", bounds)

    def told(job_id: str, program: str) -> str | None:
        result = jobs.receive(FLEET.command(FLEET.envelope(job_id, [program])))
        return None if result is None else result.rule

    assert told("job-1", "/usr/bin/uptime") == Rule.POLICY_PROGRAM
    assert told("job-2", "/usr/bin/true") is None
    assert told("job-3", "/usr/bin/true") == Rule.POLICY_RATE
    file.path.chmod(0o666)
    assert told("job-4", "/usr/bin/true") == Rule.POLICY
    jobs.close()
    database.close()
