import base64
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.config import SecretsSettings
from hub_server.storage.key_sources import KEY_BYTES
from hub_server.storage.vault import Vault, VaultRefused

PLACE = {"table": "users", "column": "totp_sealed", "row": "u-1"}
NOTHING: dict[str, str] = {}


def key_line() -> str:
    return base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n"


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def opened(folder: Path, environment: dict[str, str] = NOTHING, **places: Path) -> Vault:
    return Vault.open(folder, SecretsSettings(**places), environment)


@given(st.binary(max_size=300))
def test_what_is_sealed_comes_back(plaintext: bytes) -> None:
    vault = Vault.generate()
    sealed = vault.seal(plaintext, **PLACE)
    assert vault.unseal(sealed, **PLACE) == plaintext
    assert len(plaintext) < 4 or plaintext not in sealed


def test_the_same_is_never_sealed_the_same() -> None:
    vault = Vault.generate()
    assert len({vault.seal(b"seed", **PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize("changed", ["table", "column", "row"])
def test_a_secret_moved_to_another_place_does_not_open(changed: str) -> None:
    vault = Vault.generate()
    sealed = vault.seal(b"seed", **PLACE)
    with pytest.raises(VaultRefused, match="another row"):
        vault.unseal(sealed, **{**PLACE, changed: "other"})


def test_no_altered_byte_opens() -> None:
    vault = Vault.generate()
    sealed = vault.seal(b"seed", **PLACE)
    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(VaultRefused):
            vault.unseal(bytes(altered), **PLACE)
    for length in range(len(sealed)):
        with pytest.raises(VaultRefused):
            vault.unseal(sealed[:length], **PLACE)


def test_a_missing_key_is_named_with_what_to_do(tmp_path: Path) -> None:
    sealed = Vault.generate().seal(b"seed", **PLACE)
    vault = opened(tmp_path)
    with pytest.raises(VaultRefused, match=rf"{sealed[1:9].hex()}, which is not in {tmp_path}.*restore that key"):
        vault.unseal(sealed, **PLACE)


def test_without_settings_a_private_key_is_made_once(tmp_path: Path) -> None:
    sealed = opened(tmp_path).seal(b"seed", **PLACE)
    assert opened(tmp_path).unseal(sealed, **PLACE) == b"seed"
    assert (tmp_path / "secrets.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.key"]


def test_starts_at_once_make_one_key(tmp_path: Path) -> None:
    vaults: list[Vault] = []
    threads = [threading.Thread(target=lambda: vaults.append(opened(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = vaults[0].seal(b"seed", **PLACE)
    assert [vault.unseal(sealed, **PLACE) for vault in vaults] == [b"seed"] * 8


def test_the_settings_come_before_the_credential_and_that_before_the_generated_key(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    named, credential = key_line(), key_line()
    key_file = private(tmp_path / "named.key", named)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    generated = opened(tmp_path, environment)
    (tmp_path / "credentials" / "jtnt-secrets-key").write_text(credential)
    by_credential = opened(tmp_path, environment)
    by_settings = opened(tmp_path, environment, key_file=key_file)
    for vault, key in ((by_credential, credential), (by_settings, named)):
        assert Vault.from_keys(base64.b64decode(key)).unseal(vault.seal(b"seed", **PLACE), **PLACE) == b"seed"
        with pytest.raises(VaultRefused):
            generated.unseal(vault.seal(b"seed", **PLACE), **PLACE)


def test_a_passphrase_opens_with_its_salt_only(tmp_path: Path) -> None:
    passphrase = private(tmp_path / "passphrase", "correct horse battery\n")
    sealed = opened(tmp_path, passphrase_file=passphrase).seal(b"seed", **PLACE)
    assert opened(tmp_path, passphrase_file=passphrase).unseal(sealed, **PLACE) == b"seed"
    (tmp_path / "passphrase.salt").unlink()
    with pytest.raises(VaultRefused, match="restore that key"):
        opened(tmp_path, passphrase_file=passphrase).unseal(sealed, **PLACE)


@pytest.mark.parametrize("text", ["", "not base64!\n", "c2hvcnQ=\n"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(VaultRefused, match=r"holds no secrets key.*openssl rand"):
        opened(tmp_path, key_file=private(tmp_path / "key", text))


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VaultRefused, match="12 characters"):
        opened(tmp_path, passphrase_file=private(tmp_path / "passphrase", "short\n"))


def test_a_missing_key_file_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(VaultRefused, match="cannot be read"):
        opened(tmp_path, key_file=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "key", key_line())
    path.chmod(0o644)
    with pytest.raises(Exception, match="chmod 600"):
        opened(tmp_path, key_file=path)


@pytest.mark.parametrize("kind", ["generated", "passphrase"])
def test_a_new_key_is_noticed_by_a_vault_that_is_open(tmp_path: Path, kind: str) -> None:
    words = private(tmp_path / "words", "correct horse battery") if kind == "passphrase" else None
    places = SecretsSettings(passphrase_file=words)
    running, beside = Vault.open(tmp_path, places, NOTHING), Vault.open(tmp_path, places, NOTHING)
    old = running.seal(b"old", **PLACE)
    beside.add_key()
    assert not beside.is_fresh(old)
    new = beside.seal(b"new", **PLACE)
    assert beside.is_fresh(new)
    assert running.unseal(new, **PLACE) == b"new"
    assert running.is_fresh(running.seal(b"more", **PLACE))
    assert Vault.open(tmp_path, places, NOTHING).unseal(old, **PLACE) == b"old"
    beside.drop_old_keys()
    after = Vault.open(tmp_path, places, NOTHING)
    assert (after.key_count, after.unseal(new, **PLACE)) == (1, b"new")
    with pytest.raises(VaultRefused, match="restore that key"):
        after.unseal(old, **PLACE)


def test_a_credential_is_exchanged_by_a_person(tmp_path: Path) -> None:
    credential = tmp_path / "jtnt-secrets-key"
    old, new = key_line(), key_line()
    credential.write_text(old)
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    sealed = opened(tmp_path, environment).seal(b"seed", **PLACE)
    with pytest.raises(VaultRefused, match="line before the old one"):
        opened(tmp_path, environment).add_key()
    credential.write_text(new + old)
    both = opened(tmp_path, environment)
    assert (both.unseal(sealed, **PLACE), both.is_fresh(sealed)) == (b"seed", False)


def test_two_places_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        SecretsSettings(key_file=tmp_path / "a", passphrase_file=tmp_path / "b")
