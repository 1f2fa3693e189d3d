import json
import re
import sqlite3
from pathlib import Path

import pytest

from hub_server.cli.outcome import Exit
from tests.hub_server.cli.conftest import JtntHub


@pytest.fixture
def organisations(jtnt_hub: JtntHub) -> None:
    jtnt_hub("init")
    for name in ("one", "two", "three"):
        assert jtnt_hub("org", "create", name).code == Exit.DONE


@pytest.mark.usefixtures("organisations")
def test_the_audit_of_a_hub_stands_and_says_how_fast_it_was_read(jtnt_hub: JtntHub) -> None:
    verdict = jtnt_hub("audit", "verify")
    assert (verdict.code, verdict.err) == (Exit.DONE, "")
    assert re.search(r"^\d+ entries, 0 checkpoints .* rows/s\)\.\nNothing was altered\.$", verdict.out, re.MULTILINE)
    assert json.loads(jtnt_hub("audit", "verify", "--json").out)["faults"] == []


@pytest.mark.usefixtures("organisations")
def test_a_changed_entry_is_named_and_ends_with_1(jtnt_hub: JtntHub, data_dir: Path) -> None:
    with sqlite3.connect(data_dir / "hub.db") as connection:
        [number] = connection.execute("select max(number) from audit_entries").fetchone()
        connection.execute("update audit_entries set actor = 'user:eve' where number = ?", (number,))
    connection.close()
    verdict = jtnt_hub("audit", "verify")
    hub_id = (data_dir / "hub.id").read_text().strip()
    assert verdict.code == Exit.REFUSED
    assert f"First bad row: audit_entries, {hub_id}, {number}:" in verdict.err
    machine = jtnt_hub("audit", "verify", "--json")
    assert machine.code == Exit.REFUSED
    assert json.loads(machine.out)["faults"][0] | {"message": ""} == {
        "hubId": hub_id,
        "table": "audit_entries",
        "number": number,
        "message": "",
    }


@pytest.mark.usefixtures("organisations")
def test_a_witness_that_is_no_witness_is_said(jtnt_hub: JtntHub, tmp_path: Path) -> None:
    path = tmp_path / "witness.json"
    for text in ("{", '[{"hubId": 1}]'):
        path.write_text(text)
        refused = jtnt_hub("audit", "verify", "--witness", str(path))
        assert (refused.code, "is no witness" in refused.err) == (Exit.USAGE, True)
    path.write_text("[]")
    assert jtnt_hub("audit", "verify", "--witness", str(path)).code == Exit.DONE
    forged = {"hubId": "hub-x", "position": 3, "hash": "0" * 64, "atMs": 1, "keyId": "k", "signature": "AA=="}
    path.write_text(json.dumps([forged]))
    verdict = jtnt_hub("audit", "verify", "--witness", str(path))
    assert (verdict.code, "not signed by a key of this hub" in verdict.err) == (Exit.REFUSED, True)


@pytest.mark.usefixtures("organisations")
def test_entries_are_searched_and_exported(jtnt_hub: JtntHub) -> None:
    found = jtnt_hub("audit", "search", "TWO", "--action", "organisations:*").out.splitlines()
    assert len(found) == 2
    assert '"name":"two"' in found[0]
    assert found[1] == "1 of 1 entries."
    of_one = json.loads(jtnt_hub("audit", "search", "--organisation", "one", "--json").out)
    assert (of_one["total"], of_one["entries"][0]["detail"]["name"]) == (1, "one")
    lines = [json.loads(line) for line in jtnt_hub("audit", "export").out.splitlines()]
    numbers = [line["number"] for line in lines]
    assert numbers == sorted(numbers, reverse=True)
    assert {"one", "two", "three"} <= {line["detail"].get("name") for line in lines}
    assert [
        json.loads(line)["detail"]["name"]
        for line in jtnt_hub("audit", "export", "--organisation", "two").out.splitlines()
    ] == ["two"]


@pytest.mark.usefixtures("organisations")
def test_what_a_terminal_would_obey_is_not_printed(jtnt_hub: JtntHub) -> None:
    jtnt_hub("org", "create", "a\x1b[2Jb\u202ec")
    shown = jtnt_hub("audit", "search", "2Jb").out
    assert "1 of 1" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
