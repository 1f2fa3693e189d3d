import base64
import getpass
import signal
from pathlib import Path

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hub_server.operator.cli.arguments import parsed
from hub_server.operator.cli.keys import keys
from hub_server.operator.errors import KeyUnusable
from hub_server.operator.keys import OperatorKey, needs_passphrase, signed
from hub_server.operator.saved import KEY_NAME, Book, HubBook, SavedHub, config_folder
from hub_server.storage import private_files
from hub_server.storage.private_files import exclusive
from protocol.actions import ScriptData, order_of, script_hash
from protocol.commands import CommandsCreate
from protocol.enumerations import Action
from protocol.envelope import JobEnvelope
from protocol.identity import key_id_of

PASSPHRASE = "correct horse"


def test_a_key_under_a_passphrase_is_read_with_it_alone_and_by_its_user_alone(tmp_path: Path) -> None:
    path, key = tmp_path / KEY_NAME, OperatorKey.generate()
    with pytest.raises(KeyUnusable, match="keys make"):
        OperatorKey.load(path, None)
    key.store(path, PASSPHRASE)
    assert needs_passphrase(path)
    assert OperatorKey.load(path, PASSPHRASE).id == key.id
    for wrong in (None, "other"):
        with pytest.raises(KeyUnusable, match="passphrase"):
            OperatorKey.load(path, wrong)
    with pytest.raises(KeyUnusable, match="already"):
        OperatorKey.generate().store(path, None)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        OperatorKey.load(path, PASSPHRASE)


def test_the_signed_order_says_what_the_request_says() -> None:
    key, data = OperatorKey.generate(), ScriptData(script="id\n", arguments=["-u"], run_as="web")
    plain = CommandsCreate(
        agent_id="a-1", command_type=Action.SCRIPT, command_data=msgspec.to_builtins(data), expires_in_sec=60
    )
    request = signed(plain, data, key=key, organisation_id="o-1", requested_by="user:ada", now_ms=1_000_000)
    assert request.payload is not None
    assert request.signature is not None
    payload = base64.b64decode(request.payload)
    envelope = msgspec.json.decode(payload, type=JobEnvelope)
    assert (envelope.agent_id, envelope.organisation_id, envelope.requested_by) == ("a-1", "o-1", "user:ada")
    assert (envelope.issued_at, envelope.expires_at, envelope.timeout_sec) == (1_000_000, 1_060_000, 60)
    order = order_of(data)
    assert {name: getattr(envelope, name) for name in order.__struct_fields__} == msgspec.structs.asdict(order)
    assert envelope.script_sha256 == script_hash(b"id\n")
    _, kind, public, name = key.public_line("ada").split()
    assert (kind, name) == ("ed25519", "ada")
    raw = base64.b64decode(public)
    assert key_id_of(raw) == key.id == request.signature.key_id
    signature = base64.b64decode(request.signature.signature)
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, payload)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, payload + b" ")


async def test_keys_are_made_once_and_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert await keys(parsed(["keys", "make", "--no-passphrase", "--name", "ada", "--json"])) == 0
    made = msgspec.json.decode(capsys.readouterr().out)
    assert made["publicLine"].startswith("jtnt-key ed25519 ")
    assert made["publicLine"].endswith(" ada")
    path = config_folder() / KEY_NAME
    assert (path.stat().st_mode & 0o777, str(path)) == (0o600, made["path"])
    assert await keys(parsed(["keys", "show", "--json"])) == 0
    assert msgspec.json.decode(capsys.readouterr().out) == made
    assert OperatorKey.load(path, None).id == made["keyId"]
    with pytest.raises(KeyUnusable, match="already"):
        await keys(parsed(["keys", "make", "--no-passphrase"]))


async def test_ctrl_c_after_the_question_leaves_no_key_without_its_public_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored(self: OperatorKey, path: Path, passphrase: str | None) -> None:
        store(self, path, passphrase)
        signal.raise_signal(signal.SIGINT)

    store = OperatorKey.store
    monkeypatch.setattr(OperatorKey, "store", stored)
    monkeypatch.setattr(getpass, "getpass", lambda _question: PASSPHRASE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        assert await keys(parsed(["keys", "make"])) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert await keys(parsed(["keys", "show"])) == 0


def test_hubs_are_remembered_for_their_user_alone(tmp_path: Path) -> None:
    book = HubBook(tmp_path / "jtnt")
    assert book.read() == Book()
    first, second = SavedHub(url="https://one"), SavedHub(url="https://two", refresh_cookie="a=b")
    book.save(first, is_current=True)
    book.save(second, is_current=False)
    assert book.read() == Book(current="https://one", hubs={"https://one": first, "https://two": second})
    assert "a=b" not in repr(second)
    path = book.folder / "hubs.json"
    assert (path.stat().st_mode & 0o777, book.folder.stat().st_mode & 0o777) == (0o600, 0o700)
    path.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        book.read()
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(KeyUnusable, match="damaged"):
        book.read()


def test_another_program_that_keeps_the_folder_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was stopped by Ctrl-Z while it renewed the sign-in."""
    monkeypatch.setattr(private_files, "LOCK_SECONDS", 0.0)
    book = HubBook(tmp_path / "jtnt")
    with exclusive(book.folder), pytest.raises(KeyUnusable, match="another program keeps it to itself"):
        book.save(SavedHub(url="https://one"), is_current=True)
    book.save(SavedHub(url="https://one"), is_current=True)
    assert book.find("https://one") is not None
