"""`jtnt-hub ca` and `jtnt-hub secrets` on a real hub's folder."""

import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from hub_server.cli.main import run
from hub_server.cli.outcome import Exit
from hub_server.pki.news import NEWS_NAME
from tests.hub_server.cli.conftest import JtntHub


@pytest.fixture(autouse=True)
def made(jtnt_hub: JtntHub) -> None:
    assert jtnt_hub("init").code == Exit.DONE


def shown(jtnt_hub: JtntHub) -> dict[str, Any]:
    overview: dict[str, Any] = json.loads(jtnt_hub("ca", "show", "--json").out)
    return overview


def states(overview: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((view["use"], view["state"]) for view in overview["authorities"])


def test_it_shows_every_key_to_people_and_programs(jtnt_hub: JtntHub) -> None:
    overview = shown(jtnt_hub)
    assert states(overview) == [(use, "active") for use in ("access", "agents", "audit", "jobs", "root", "servers")]
    text = jtnt_hub("ca", "show").out
    assert all(view["id"] in text for view in overview["authorities"])
    assert "the hub rotates by itself" in text


def test_it_rotates_one_or_all(jtnt_hub: JtntHub) -> None:
    overview = json.loads(jtnt_hub("ca", "rotate", "agents", "--json").out)
    assert overview["trustVersion"] == 2
    assert ("agents", "retiring") in states(overview)
    assert jtnt_hub("ca", "rotate").code == Exit.DONE
    assert [state for use, state in states(shown(jtnt_hub)) if use == "servers"] == ["active", "next"]
    again = jtnt_hub("ca", "rotate", "servers")
    assert (again.code, "waits already" in again.err) == (Exit.REFUSED, True)
    assert jtnt_hub("ca", "rotate", "access").code == Exit.USAGE


def test_stolen_keys_are_revoked_and_named(jtnt_hub: JtntHub, data_dir: Path) -> None:
    assert jtnt_hub("org", "create", "one").code == Exit.DONE
    before = {view["use"]: view["id"] for view in shown(jtnt_hub)["authorities"]}
    assert jtnt_hub("ca", "rotate", "--revoke").code == Exit.USAGE
    assert shown(jtnt_hub)["trustVersion"] == 1
    overview = json.loads(jtnt_hub("ca", "rotate", "jobs", "--revoke", "--json").out)
    assert states(overview) == [(use, "active") for use in ("access", "agents", "audit", "jobs", "root", "servers")]
    assert before["jobs"] not in {view["id"] for view in overview["authorities"]}
    assert (data_dir / NEWS_NAME).stat().st_size == 1
    assert jtnt_hub("ca", "rotate", "all", "--revoke").code == Exit.DONE
    after = {view["use"]: view["id"] for view in shown(jtnt_hub)["authorities"]}
    assert {use for use, key_id in before.items() if after[use] == key_id} == {"root", "access"}
    said = json.loads(jtnt_hub("audit", "verify", "--json").out)
    assert (said["checkpoints"], said["faults"]) == (1, [])
    found = json.loads(jtnt_hub("audit", "search", "--action", "authorities:revoke", "--json").out)
    assert found["total"] == 1 + 4


def test_the_root_goes_offline_and_rotates_from_there(jtnt_hub: JtntHub, data_dir: Path, tmp_path: Path) -> None:
    key = tmp_path / "root.key"
    exported = jtnt_hub("ca", "export-root", "--with-key", str(key), "--remove")
    root = x509.load_pem_x509_certificate(exported.out.encode())
    assert key.stat().st_mode & 0o777 == 0o600
    assert root.fingerprint(SHA256()).hex() == shown(jtnt_hub)["rootFingerprint"]
    assert "root's key is offline" in jtnt_hub("ca", "show").out
    refused = jtnt_hub("ca", "rotate")
    assert (refused.code, "--root-key" in refused.err) == (Exit.REFUSED, True)
    assert shown(jtnt_hub)["trustVersion"] == 1
    assert jtnt_hub("ca", "rotate", "--root-key", str(key)).code == Exit.DONE
    assert (shown(jtnt_hub)["trustVersion"], shown(jtnt_hub)["rootAtHand"]) == (2, False)
    assert sealed(data_dir)[shown(jtnt_hub)["rootFingerprint"]] is None
    assert jtnt_hub("ca", "export-root").out == exported.out
    assert jtnt_hub("ca", "export-root", "--with-key", str(tmp_path / "again")).code == Exit.REFUSED


def test_the_roots_key_is_not_lost_by_a_slip(jtnt_hub: JtntHub, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("something else")
    assert jtnt_hub("ca", "export-root", "--remove").code == Exit.USAGE
    assert jtnt_hub("ca", "export-root", "--with-key", str(there), "--remove").code == Exit.USAGE
    nowhere = jtnt_hub("ca", "export-root", "--with-key", str(tmp_path / "no" / "key"), "--remove")
    assert nowhere.code == Exit.NOT_WRITABLE
    assert there.read_text() == "something else"
    assert shown(jtnt_hub)["rootAtHand"]


def test_a_wrong_root_key_is_refused(jtnt_hub: JtntHub, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("no key")
    wrong = jtnt_hub("ca", "rotate", "--root-key", str(tmp_path / "wrong"))
    assert (wrong.code, "private key" in wrong.err) == (Exit.REFUSED, True)
    assert jtnt_hub("ca", "rotate", "--root-key", str(tmp_path / "none")).code == Exit.USAGE


def sealed(data_dir: Path) -> dict[str, bytes | None]:
    """Return what the secrets key seals; the key that signs commands is sealed by the signer's."""
    database = sqlite3.connect(data_dir / "hub.db")
    rows = database.execute("select id, sealed_key from authorities where use != 'jobs'").fetchall()
    database.close()
    return dict(rows)


def test_the_secrets_key_is_exchanged(jtnt_hub: JtntHub, data_dir: Path) -> None:
    before, old_key = sealed(data_dir), (data_dir / "secrets.key").read_text()
    outcome = jtnt_hub("secrets", "rotate", "--json")
    assert json.loads(outcome.out)["resealed"] == len(before) == 5
    after, new_key = sealed(data_dir), (data_dir / "secrets.key").read_text()
    assert new_key != old_key
    assert new_key.count("\n") == 1
    key_ids = {value[:9] for value in after.values() if value is not None}
    assert len(key_ids) == 1
    assert key_ids.isdisjoint(value[:9] for value in before.values() if value is not None)
    assert states(shown(jtnt_hub))


def test_an_exchange_that_was_cut_short_is_finished_by_the_next(jtnt_hub: JtntHub, data_dir: Path) -> None:
    path = data_dir / "secrets.key"
    path.write_text(base64.b64encode(b"n" * 32).decode() + "\n" + path.read_text())
    assert states(shown(jtnt_hub))
    assert jtnt_hub("secrets", "rotate").code == Exit.DONE
    assert path.read_text() == base64.b64encode(b"n" * 32).decode() + "\n"
    assert states(shown(jtnt_hub))


def test_without_its_secrets_key_a_hub_says_what_to_do(jtnt_hub: JtntHub, data_dir: Path) -> None:
    (data_dir / "secrets.key").unlink()
    outcome = jtnt_hub("ca", "show")
    assert outcome.code == Exit.KEYS
    assert "restore that key from its backup" in outcome.err


@pytest.mark.parametrize(
    "command",
    [["ca"], ["ca", "show"], ["ca", "rotate"], ["ca", "export-root"], ["secrets"], ["secrets", "rotate"]],
    ids=" ".join,
)
def test_every_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == Exit.DONE
    assert " ".join(["jtnt-hub", *command]) in capsys.readouterr().out.split("Examples:")[1]
