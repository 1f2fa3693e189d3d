"""People on the command line: organisations, locks, roles, second factors."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from hub_server.access.standings import NEWS_NAME
from hub_server.cli.main import run
from hub_server.cli.outcome import Exit
from hub_server.cli.users import generated_password
from tests.hub_server.cli.conftest import JtntHub


@pytest.fixture
def ready(jtnt_hub: JtntHub) -> JtntHub:
    """A hub with `ada`, who may administer it, and a second organisation."""
    jtnt_hub("init")
    jtnt_hub("users", "create", "ada", "--role", "org-admin")
    jtnt_hub("org", "create", "berlin")
    return jtnt_hub


def users_of(jtnt_hub: JtntHub, *further: str) -> dict[str, str]:
    listed = json.loads(jtnt_hub("users", "list", "--json", *further).out)
    return {user["username"]: user["role"] for user in listed["users"]}


def test_people_are_listed_by_organisation(ready: JtntHub) -> None:
    assert "no users" in ready("users", "list", "--organisation", "berlin").out
    assert ready("users", "create", "bert", "--role", "viewer", "--organisation", "berlin").code == Exit.DONE
    assert users_of(ready) == {"ada": "org-admin"}
    assert users_of(ready, "--organisation", "berlin") == {"bert": "viewer"}
    title, row = ready("users", "list").out.splitlines()
    assert title.split()[:3] == ["NAME", "ROLE", "STATE"]
    assert row.split()[:3] == ["ada", "org-admin", "open"]
    missing = ready("users", "list", "--organisation", "nowhere")
    assert (missing.code, "no organisation 'nowhere'" in missing.err) == (Exit.REFUSED, True)


def test_a_role_is_given_changed_and_taken(ready: JtntHub) -> None:
    ready("users", "grant", "ada", "--role", "viewer", "--organisation", "berlin")
    assert users_of(ready, "--organisation", "berlin") == {"ada": "viewer"}
    assert "technician now" in ready("users", "grant", "Ada", "--role", "technician", "--organisation", "berlin").out
    assert users_of(ready) == {"ada": "org-admin"}
    assert ready("users", "revoke", "ada", "--organisation", "berlin").code == Exit.DONE
    assert users_of(ready, "--organisation", "berlin") == {}
    again = ready("users", "revoke", "ada", "--organisation", "berlin")
    assert (again.code, "--organisation" in again.err) == (Exit.REFUSED, True)
    assert "no user 'nobody'" in ready("users", "grant", "nobody", "--role", "viewer").err


def test_a_user_is_locked_and_unlocked_and_the_running_hub_is_told(ready: JtntHub, data_dir: Path) -> None:
    def told() -> int:
        return (data_dir / NEWS_NAME).stat().st_size if (data_dir / NEWS_NAME).exists() else 0

    before = told()
    assert "is locked" in ready("users", "lock", "ada").out
    assert told() > before
    assert ready("users", "list").out.splitlines()[1].split()[2] == "locked"
    assert json.loads(ready("users", "unlock", "ada", "--json").out)["lockedAt"] is None


def test_a_lost_second_factor_is_removed(ready: JtntHub, data_dir: Path) -> None:
    with sqlite3.connect(data_dir / "hub.db") as database:
        database.execute("update users set totp_sealed = x'00', totp_confirmed_at = '2026-01-01 00:00:00'")
    database.close()
    assert ready("users", "list").out.splitlines()[1].split()[3] == "yes"
    assert "no second factor" in ready("users", "remove-totp", "ada").out
    assert ready("users", "list").out.splitlines()[1].split()[3] == "no"


def test_every_deed_on_the_machine_is_in_the_audit(ready: JtntHub, data_dir: Path) -> None:
    for deed in (["lock", "ada"], ["unlock", "ada"], ["remove-totp", "ada"], ["password", "ada"], ["revoke", "ada"]):
        assert ready("users", *deed).code == Exit.DONE
    with sqlite3.connect(data_dir / "hub.db") as database:
        rows = database.execute("select action, actor from audit_entries where action like 'users:%' order by number")
        written = rows.fetchall()
    database.close()
    names = ("create", "lock", "unlock", "remove-totp", "set-password", "remove")
    assert written == [(f"users:{name}", "hub-cli") for name in names]


def test_a_password_that_is_made_never_holds_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = iter("aadaa" * 4 + "bcdef" * 4)
    monkeypatch.setattr("hub_server.cli.users.secrets.choice", lambda _letters: next(letters))
    assert generated_password("Ada") == "bcdef-bcdef-bcdef-bcdef"


@pytest.mark.parametrize("command", ["list", "password", "lock", "unlock", "grant", "revoke", "remove-totp"])
def test_every_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["users", command, "--help"]) == Exit.DONE
    assert f"jtnt-hub users {command}" in capsys.readouterr().out.split("Examples:")[1]
