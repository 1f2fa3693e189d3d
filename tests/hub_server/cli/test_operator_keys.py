"""`jtnt-hub operator-keys` on a real hub's folder."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub_server.cli.outcome import Exit
from hub_server.pki.news import NEWS_NAME
from protocol.identity import key_id_of
from tests.hub_server.cli.conftest import JtntHub


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    path = tmp_path / f"{key_id_of(raw)}.pub"
    path.write_text(f"jtnt-key ed25519 {base64.b64encode(raw).decode()} ada@laptop\n")
    return path


def test_a_key_is_added_shown_and_revoked(jtnt_hub: JtntHub, data_dir: Path, public_key: Path) -> None:
    assert jtnt_hub("init").code == Exit.DONE
    assert {path.name for path in data_dir.glob("signer.*")} == {"signer.key", "signer.log"}
    assert "There are no operators' keys" in jtnt_hub("operator-keys", "list").out
    added = jtnt_hub("operator-keys", "add", "ada", str(public_key), "--days", "10")
    assert (added.code, public_key.stem in added.out) == (Exit.DONE, True)
    assert (data_dir / NEWS_NAME).stat().st_size == 1
    again = jtnt_hub("operator-keys", "add", "bea", str(public_key))
    assert (again.code, "there already, as 'ada'" in again.err) == (Exit.REFUSED, True)
    [key] = json.loads(jtnt_hub("operator-keys", "list", "--json").out)
    assert (key["keyId"], key["name"]) == (public_key.stem, "ada")
    assert json.loads(jtnt_hub("ca", "show", "--json").out)["trustVersion"] == 2
    assert jtnt_hub("operator-keys", "revoke", "ada").code == Exit.DONE
    assert json.loads(jtnt_hub("operator-keys", "list", "--json").out) == []
    gone = jtnt_hub("operator-keys", "revoke", public_key.stem)
    assert (gone.code, "there is no operator's key" in gone.err) == (Exit.REFUSED, True)


def test_wrong_usage_is_said_before_anything_is_changed(jtnt_hub: JtntHub, tmp_path: Path, public_key: Path) -> None:
    assert jtnt_hub("operator-keys", "add", "ada", str(tmp_path / "absent")).code == Exit.USAGE
    assert jtnt_hub("operator-keys", "add", "ada", str(public_key), "--days", "0").code == Exit.USAGE
    assert jtnt_hub("operator-keys", "list").code == Exit.NOT_SET_UP
