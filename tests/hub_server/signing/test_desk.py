"""The signer's desk in this process: keys, log and rate."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hub_server.signing.desk import Desk
from hub_server.signing.model import Adopt, Make, Refusal, Refused, Sealed, Sign, Signed, Terms
from hub_server.signing.strongbox import Strongbox
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.vault import Vault, VaultRefused
from protocol.identity import key_id_of
from tests.hub_server.signing.orders import order, payload
from tests.stand_ins import stand_in

Open = Callable[..., Desk]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    desks: list[Desk] = []

    def desk(**changes: Any) -> Desk:
        values = {"key_file": str(tmp_path / "signer.key"), "log_file": str(tmp_path / "signer.log")}
        desks.append(Desk(Terms(**values | changes)))
        return desks[-1]

    yield desk
    for each in desks:
        each.close()


def lines(tmp_path: Path, name: str = "signer.log") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]


def made(desk: Desk) -> tuple[str, Sealed]:
    answer = desk.answer(Make(1))
    assert isinstance(answer, Sealed)
    return key_id_of(answer.public_key), answer


def refused(desk: Desk, question: Sign | Adopt | Make) -> Refused:
    answer = desk.answer(question)
    assert isinstance(answer, Refused), answer
    return answer


def test_a_key_that_was_made_signs_and_only_under_its_own_name(opened: Open) -> None:
    desk = opened()
    (key_id, one), (_, other) = made(desk), made(desk)
    message = payload()
    answer = desk.answer(Sign(2, key_id, one.sealed, message))
    assert isinstance(answer, Signed)
    Ed25519PublicKey.from_public_bytes(one.public_key).verify(answer.signature, message)
    assert refused(desk, Sign(3, key_id, other.sealed, message)).refusal is Refusal.KEYS
    altered = one.sealed[:-1] + bytes([one.sealed[-1] ^ 1])
    assert refused(desk, Sign(4, key_id, altered, message)).refusal is Refusal.KEYS
    assert refused(desk, Sign(5, key_id, b"\x01" + one.sealed[1:], message)).refusal is Refusal.KEYS


def test_a_key_is_taken_over_and_outlives_the_process(opened: Open) -> None:
    key = Ed25519PrivateKey.generate()
    taken = opened().answer(Adopt(1, key.private_bytes_raw()))
    assert isinstance(taken, Sealed)
    assert taken.public_key == key.public_key().public_bytes_raw()
    answer = opened().answer(Sign(1, key_id_of(taken.public_key), taken.sealed, message := payload()))
    assert isinstance(answer, Signed)
    key.public_key().verify(answer.signature, message)
    assert refused(opened(), Adopt(2, b"short")).refusal is Refusal.KEYS


def test_nothing_but_the_signers_own_file_opens_a_key(opened: Open, tmp_path: Path) -> None:
    key_id, one = made(opened())
    with pytest.raises(VaultRefused):
        Vault.generate().unseal(one.sealed, table="authorities", column="sealed_key", row=key_id)
    (tmp_path / "signer.key").rename(tmp_path / "kept")
    answer = refused(opened(), Sign(1, key_id, one.sealed, payload()))
    assert (answer.refusal, "restore that file" in answer.message) == (Refusal.KEYS, True)
    assert (tmp_path / "signer.key").stat().st_mode & 0o777 == 0o600


def test_a_new_sealing_key_before_the_old_one_is_taken_up_beside_the_running_signer(
    opened: Open, tmp_path: Path
) -> None:
    desk = opened()
    key_id, one = made(desk)
    path = tmp_path / "signer.key"
    path.write_bytes(base64.b64encode(secrets.token_bytes(32)) + b"\n" + path.read_bytes())
    later_id, later = made(Desk(Terms(key_file=str(path), log_file=str(tmp_path / "other.log"))))
    assert isinstance(desk.answer(Sign(1, later_id, later.sealed, payload())), Signed)
    assert isinstance(desk.answer(Sign(2, key_id, one.sealed, payload())), Signed)


def test_a_key_file_that_others_read_is_refused(tmp_path: Path) -> None:
    Strongbox(tmp_path / "signer.key")
    (tmp_path / "signer.key").chmod(0o644)
    with pytest.raises(KeysRefused, match="chmod 600"):
        Strongbox(tmp_path / "signer.key")


def test_the_log_says_who_and_what_and_nothing_that_is_secret(opened: Open, tmp_path: Path) -> None:
    desk = opened()
    key_id, one = made(desk)
    envelope = order()
    message = payload(job_id=envelope.job_id)
    desk.answer(Sign(2, key_id, one.sealed, message))
    desk.answer(Sign(3, key_id, one.sealed, payload(expires_at=1)))
    first, signed, denied = lines(tmp_path)
    assert first["outcome"] == "made a key"
    assert signed | {"at": ""} == {
        "at": "",
        "outcome": "signed",
        "jobId": envelope.job_id,
        "organisationId": "org-1",
        "agentId": "agent-1",
        "action": "exec",
        "requestedBy": "user:ada",
        "keyId": key_id,
        "sha256": hashlib.sha256(message).hexdigest(),
    }
    assert (denied["outcome"], denied["why"]) == ("refused", "the order has expired")
    text = (tmp_path / "signer.log").read_text()
    assert not any(word in text for word in ("--secret", "TOKEN", "hidden"))
    assert (tmp_path / "signer.log").stat().st_mode & 0o777 == 0o600


def test_full_logs_are_kept_and_the_oldest_goes(opened: Open, tmp_path: Path) -> None:
    desk = opened(log_max_bytes=400, log_files_kept=2)
    key_id, one = made(desk)
    ids = []
    for number in range(8):
        ids.append(order().job_id)
        assert isinstance(desk.answer(Sign(number, key_id, one.sealed, payload(job_id=ids[-1]))), Signed)
    kept = [line["jobId"] for name in ("signer.log.2", "signer.log.1", "signer.log") for line in lines(tmp_path, name)]
    assert kept == ids[-len(kept) :]
    assert not (tmp_path / "signer.log.3").exists()
    assert all((tmp_path / name).stat().st_size <= 400 for name in ("signer.log", "signer.log.1", "signer.log.2"))


def test_without_a_line_in_the_log_no_signature_leaves(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = opened()
    key_id, one = made(desk)
    monkeypatch.setattr("hub_server.signing.logbook.os", stand_in(os, write=_full))
    assert refused(desk, Sign(2, key_id, one.sealed, payload())).refusal is Refusal.LOG


def test_too_many_are_refused_with_when_to_ask_again_and_one_line(opened: Open, tmp_path: Path) -> None:
    desk = opened(per_second=0.001, burst=3)
    key_id, one = made(desk)
    answers = [desk.answer(Sign(number, key_id, one.sealed, payload())) for number in range(50)]
    assert [type(answer) for answer in answers[:2]] == [Signed, Signed]
    assert all(isinstance(answer, Refused) and answer.refusal is Refusal.RATE for answer in answers[2:])
    assert isinstance(answers[2], Refused)
    assert answers[2].retry_after_seconds > 100
    assert [line["outcome"] for line in lines(tmp_path)] == ["made a key", "signed", "signed", "rate limited"]


def test_a_line_that_the_disk_took_half_of_spoils_no_other(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = opened()
    key_id, one = made(desk)
    question = Sign(2, key_id, one.sealed, payload())
    with monkeypatch.context() as nearly_full:
        half = stand_in(os, write=lambda fd, data: os.write(fd, data[:20]))
        nearly_full.setattr("hub_server.signing.logbook.os", half)
        assert refused(desk, question).refusal is Refusal.LOG
    for another in (opened(), desk):
        assert isinstance(another.answer(question), Signed)
    whole = [line for line in (tmp_path / "signer.log").read_text().splitlines() if line.endswith("}")]
    assert [json.loads(line)["outcome"] for line in whole] == ["made a key", "signed", "signed"]


def _full(_descriptor: int, _data: bytes) -> int:
    raise OSError(28, "No space left on device")
