import json

from hub_server.cli.outcome import Exit
from tests.hub_server.cli.conftest import JtntHub


def test_an_organisation_is_made_listed_and_bounded(jtnt_hub: JtntHub) -> None:
    jtnt_hub("init")
    made = json.loads(jtnt_hub("org", "create", "Acme Ltd", "--agents", "5", "--json").out)
    assert (made["name"], made["quotas"]) == ("Acme Ltd", {"agents": 5, "users": None, "openCommands": None})
    again = jtnt_hub("org", "create", "Acme Ltd")
    assert (again.code, "already an organisation" in again.err) == (Exit.REFUSED, True)
    changed = jtnt_hub("org", "quota", "Acme Ltd", "--agents", "none", "--open-commands", "9", "--json")
    assert json.loads(changed.out)["quotas"] == {"agents": None, "users": None, "openCommands": 9}
    titles, default, acme = jtnt_hub("org", "list").out.splitlines()
    assert titles.split()[:2] == ["ID", "NAME"]
    assert "default" in default
    assert acme.split()[0] == made["id"]
    assert acme.endswith("0 of no bound  0 of no bound  9")


def test_a_bound_that_is_none_is_refused(jtnt_hub: JtntHub) -> None:
    jtnt_hub("init")
    for bound in ("many", "-1", "99999999999"):
        refused = jtnt_hub("org", "quota", "default", f"--agents={bound}")
        assert refused.code == Exit.USAGE, bound
    missing = jtnt_hub("org", "quota", "nowhere", "--agents", "1")
    assert (missing.code, "no organisation 'nowhere'" in missing.err) == (Exit.REFUSED, True)
