import io
import json
import sqlite3
from pathlib import Path

import pytest

from hub_server.cli.main import run
from hub_server.cli.outcome import Exit
from protocol.identity import JoinString
from tests.hub_server.cli.conftest import JtntHub


def one_line(text: str) -> str:
    assert text.startswith("jtnt-hub: ")
    assert text.count("\n") == 1
    return text


def test_init_makes_a_hub_and_again_changes_nothing(jtnt_hub: JtntHub, data_dir: Path) -> None:
    first = jtnt_hub("init", "--json")
    assert first.code == Exit.DONE
    assert data_dir.stat().st_mode & 0o777 == 0o700
    before = {path: path.read_bytes() for path in (data_dir / "pki").iterdir()}
    assert jtnt_hub("init", "--json") == first
    assert {path: path.read_bytes() for path in (data_dir / "pki").iterdir()} == before
    assert "jtnt-hub serve" in jtnt_hub("init").out


@pytest.mark.parametrize(
    "command", [["token", "create"], ["token", "list"], ["users", "create", "ada", "--role=viewer"]]
)
def test_a_folder_without_a_hub_is_left_alone(jtnt_hub: JtntHub, data_dir: Path, command: list[str]) -> None:
    outcome = jtnt_hub(*command)
    assert outcome.code == Exit.NOT_SET_UP
    assert "jtnt-hub init" in one_line(outcome.err)
    assert not data_dir.exists()


def test_a_user_is_made_with_a_password_shown_once(jtnt_hub: JtntHub, data_dir: Path) -> None:
    jtnt_hub("init")
    made = jtnt_hub("users", "create", "Ada", "--role", "org-admin", "--json")
    user = json.loads(made.out)
    assert (user["username"], user["role"]) == ("ada", "org-admin")
    assert len(user["password"]) == 23
    assert user["password"].encode() not in (data_dir / "hub.db").read_bytes()
    again = jtnt_hub("users", "create", "ada", "--role", "viewer")
    assert (again.code, again.out) == (Exit.REFUSED, "")
    assert "already a user ada" in one_line(again.err)


def test_a_password_may_come_from_standard_input(jtnt_hub: JtntHub, monkeypatch: pytest.MonkeyPatch) -> None:
    jtnt_hub("init")
    monkeypatch.setattr("sys.stdin", io.StringIO("marzipan-bicycle-42\n"))
    made = jtnt_hub("users", "create", "grace", "--role", "technician", "--password-stdin")
    assert made.code == Exit.DONE
    assert "marzipan" not in made.out + made.err
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    weak = jtnt_hub("users", "create", "eve", "--role", "viewer", "--password-stdin")
    assert (weak.code, "12 characters" in weak.err) == (Exit.REFUSED, True)


def test_a_token_is_made_listed_and_revoked(jtnt_hub: JtntHub) -> None:
    jtnt_hub("init")
    assert "There are no tokens" in jtnt_hub("token", "list").out
    line = jtnt_hub(
        "token", "create", "--site", "berlin", "--tag", "web", "--tag", "db", "--uses", "3", "--ttl", "2h"
    ).out
    join = JoinString.parse(line.split("'")[1])
    assert (join.host, join.port) == ("127.0.0.1", 3001)
    listed = json.loads(jtnt_hub("token", "list", "--json").out)["tokens"][0]
    assert (listed["id"], listed["site"], listed["tags"], listed["uses"]) == (
        join.token.id,
        "berlin",
        ["web", "db"],
        3,
    )
    assert jtnt_hub("token", "revoke", join.token.id).code == Exit.DONE
    row = jtnt_hub("token", "list").out.splitlines()[1].split()
    assert row[:3] == [join.token.id, "revoked", "0/3"]
    assert "no enrollment token" in one_line(jtnt_hub("token", "revoke", "nothing").err)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ttl", "soon"], "no duration"),
        (["--ttl", "1s"], ">= 60"),
        (["--uses", "0"], ">= 1"),
        (["--tag", ""], "tags"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(jtnt_hub: JtntHub, options: list[str], said: str) -> None:
    outcome = jtnt_hub("token", "create", *options)
    assert outcome.code == Exit.USAGE
    assert said in one_line(outcome.err)


@pytest.mark.parametrize("arguments", [["nothing"], ["init", "--nothing"], ["users", "create", "--role", "god", "ada"]])
def test_wrong_usage_is_said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out + captured.err


def test_a_database_of_a_newer_version_is_left_alone(jtnt_hub: JtntHub, data_dir: Path) -> None:
    jtnt_hub("init")
    with sqlite3.connect(data_dir / "hub.db") as database:
        database.execute("update alembic_version set version_num = 'f999'")
    database.close()
    outcome = jtnt_hub("token", "list")
    assert outcome.code == Exit.DATABASE_NEWER
    assert "newer version" in one_line(outcome.err)


def test_what_is_no_database_is_said(jtnt_hub: JtntHub, data_dir: Path) -> None:
    jtnt_hub("init")
    for name in ("hub.db-wal", "hub.db-shm"):
        (data_dir / name).unlink(missing_ok=True)
    (data_dir / "hub.db").write_bytes(b"not a database at all" * 100)
    outcome = jtnt_hub("token", "list")
    assert outcome.code == Exit.DATABASE
    assert "hub.db cannot be used" in one_line(outcome.err)


def test_keys_that_others_can_read_are_refused(jtnt_hub: JtntHub, data_dir: Path) -> None:
    jtnt_hub("init")
    (data_dir / "secrets.key").chmod(0o644)
    outcome = jtnt_hub("token", "list")
    assert outcome.code == Exit.KEYS
    assert "chmod 600" in one_line(outcome.err)


def test_a_folder_that_cannot_be_made_is_said(jtnt_hub: JtntHub, data_dir: Path) -> None:
    data_dir.write_text("a file")
    outcome = jtnt_hub("init")
    assert outcome.code == Exit.NOT_WRITABLE
    assert "folder of your own" in one_line(outcome.err)


def test_wrong_settings_are_said(jtnt_hub: JtntHub, tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text("[people]\nprot = 1\n")
    outcome = jtnt_hub("init", "--config", str(config))
    assert outcome.code == Exit.SETTINGS
    assert "unknown setting people.prot" in one_line(outcome.err)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["init"],
        ["users"],
        ["users", "create"],
        ["token"],
        ["token", "create"],
        ["token", "list"],
        ["version"],
    ],
    ids=" ".join,
)
def test_every_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == Exit.DONE
    example = capsys.readouterr().out.split("Examples:")[1]
    assert " ".join(["jtnt-hub", *command]) in example


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == run(["--version"]) == Exit.DONE
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("jtnt-hub 0.")
