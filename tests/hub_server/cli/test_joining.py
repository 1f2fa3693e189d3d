"""`jtnt-hub token create --approval` and `jtnt-hub key`."""

import json

import pytest

from hub_server.cli.main import run
from hub_server.cli.outcome import Exit
from hub_server.enrollment.keys import OrganisationKey
from tests.hub_server.cli.conftest import JtntHub


def test_a_token_that_needs_approval_says_so(jtnt_hub: JtntHub) -> None:
    jtnt_hub("init")
    assert "waits until a person" in jtnt_hub("token", "create", "--approval").out
    assert "waits" not in jtnt_hub("token", "create").out
    states = [line.split()[1] for line in jtnt_hub("token", "list").out.splitlines()[1:]]
    assert sorted(states) == ["approval", "open"]
    listed = json.loads(jtnt_hub("token", "list", "--json").out)["tokens"]
    assert sorted(token["approval"] for token in listed) == [False, True]


def test_a_key_is_made_listed_and_revoked(jtnt_hub: JtntHub) -> None:
    jtnt_hub("init")
    assert "There are no organisation keys" in jtnt_hub("key", "list").out
    said = jtnt_hub("key", "create", "provisioning", "--site", "berlin", "--tag", "web", "--ttl", "30d").out
    key = OrganisationKey.parse(said.split("X-API-Key: ")[1].strip())
    (listed,) = json.loads(jtnt_hub("key", "list", "--json").out)["keys"]
    assert (listed["id"], listed["name"], listed["site"], listed["tags"]) == (key.id, "provisioning", "berlin", ["web"])
    assert key.text.split(".")[1] not in jtnt_hub("key", "list").out
    assert jtnt_hub("key", "list").out.splitlines()[1].split()[:5] == [key.id, "provisioning", "open", "0", "-"]
    assert jtnt_hub("key", "revoke", key.id).code == Exit.DONE
    assert jtnt_hub("key", "list").out.splitlines()[1].split()[2] == "revoked"
    unknown = jtnt_hub("key", "revoke", "nothing")
    assert (unknown.code, "no organisation key nothing" in unknown.err) == (Exit.REFUSED, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["x", "--ttl", "soon"], "no duration"), (["x", "--ttl", "400d"], "<= 316"), (["", "--ttl", "1d"], "name")],
)
def test_a_key_that_makes_no_sense_is_refused(jtnt_hub: JtntHub, arguments: list[str], said: str) -> None:
    jtnt_hub("init")
    outcome = jtnt_hub("key", "create", *arguments)
    assert (outcome.code, said in outcome.err) == (Exit.USAGE, True), outcome.err


@pytest.mark.parametrize(
    "command", [["key"], ["key", "create"], ["key", "list"], ["key", "revoke"], ["token", "revoke"]], ids=" ".join
)
def test_every_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == Exit.DONE
    assert " ".join(["jtnt-hub", *command]) in capsys.readouterr().out.split("Examples:")[1]


def test_the_help_shows_how_to_ask_for_approval(capsys: pytest.CaptureFixture[str]) -> None:
    run(["token", "create", "--help"])
    assert "jtnt-hub token create --approval" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "name", "listed"), [("token", (), "tokens"), ("key", ("provisioning",), "keys")])
def test_each_organisation_has_its_own(jtnt_hub: JtntHub, command: str, name: tuple[str, ...], listed: str) -> None:
    jtnt_hub("init")
    jtnt_hub("org", "create", "berlin")
    there = ("--organisation", "berlin")

    def ids(*organisation: str) -> list[str]:
        return [each["id"] for each in json.loads(jtnt_hub(command, "list", "--json", *organisation).out)[listed]]

    assert jtnt_hub(command, "create", *name, *there).code == Exit.DONE
    assert "There are no" in jtnt_hub(command, "list").out
    (made,) = ids(*there)
    assert jtnt_hub(command, "revoke", made).code == Exit.REFUSED
    assert jtnt_hub(command, "revoke", made, *there).code == Exit.DONE
    assert jtnt_hub(command, "create", *name).code == Exit.DONE
    assert made not in ids()
    missing = jtnt_hub(command, "create", *name, "--organisation", "nowhere")
    assert (missing.code, "no organisation 'nowhere'" in missing.err) == (Exit.REFUSED, True)
