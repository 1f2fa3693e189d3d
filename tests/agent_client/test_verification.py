from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from agent_client.execution.verification import Audience, Denied, Grounds, Permitted, Rule, judge
from agent_client.trust.document import parse_trust
from agent_client.trust.signature import is_signed_by
from protocol.frames import Command
from tests.agent_client.fleet import AGENT, ORGANISATION, Fleet, Signer, command_of, now_ms

FLEET = Fleet()
ARGV = ["uname", "-a"]


def grounds(**changes: Any) -> Grounds:
    values: dict[str, Any] = {
        "audience": Audience(ORGANISATION, AGENT),
        "trust": parse_trust(FLEET.trust()),
        "is_signed_by": is_signed_by,
        "now_ms": now_ms(),
        "allowed_actions": {"exec", "script"},
    }
    return Grounds(**values | changes)


def order(**changes: Any) -> Command:
    return FLEET.command(FLEET.envelope("job-1", ARGV, **changes))


def rule_of(command: Command, **changes: Any) -> Rule:
    decision = judge(command, grounds(**changes))
    assert isinstance(decision, Denied), decision
    assert decision.message
    return decision.rule


def test_an_order_in_order_is_permitted_with_the_bytes_that_were_signed() -> None:
    command = order()
    decision = judge(command, grounds())
    assert isinstance(decision, Permitted)
    assert decision.envelope.argv == ARGV
    assert decision.payload == base64.b64decode(command.payload)


def test_what_is_shown_to_people_beside_the_order_counts_for_nothing() -> None:
    command = msgspec.structs.replace(order(), command_data={"argv": ["rm", "-rf", "/"]}, expires_at=1)
    decision = judge(command, grounds())
    assert isinstance(decision, Permitted)
    assert decision.envelope.argv == ARGV


@pytest.mark.parametrize("position", [0, 40, -1])
def test_an_order_with_one_altered_bit_is_refused(position: int) -> None:
    command = order()
    payload = bytearray(base64.b64decode(command.payload))
    payload[position] ^= 1
    altered = msgspec.structs.replace(command, payload=base64.b64encode(payload).decode())
    assert rule_of(altered) is Rule.SIGNATURE


def test_an_order_with_other_words_than_the_signed_is_refused() -> None:
    envelope = FLEET.envelope("job-1", ["rm", "-rf", "/"])
    signature = FLEET.signer.sign(msgspec.json.encode(FLEET.envelope("job-1", ARGV)))
    assert rule_of(command_of(msgspec.json.encode(envelope), signature, "job-1", envelope)) is Rule.SIGNATURE


def test_one_good_signature_of_several_is_enough() -> None:
    command = order()
    stranger = Signer().sign(base64.b64decode(command.payload))
    both = msgspec.structs.replace(command, signatures=[stranger, *command.signatures])
    assert isinstance(judge(both, grounds()), Permitted)


def test_an_unsigned_order_is_refused() -> None:
    assert rule_of(msgspec.structs.replace(order(), signatures=[])) is Rule.SIGNATURE


def test_a_key_that_the_trust_document_does_not_name_is_refused() -> None:
    assert rule_of(FLEET.command(FLEET.envelope("job-1", ARGV), Signer())) is Rule.UNKNOWN_KEY


def test_a_strange_key_under_a_trusted_name_is_refused() -> None:
    command = FLEET.command(FLEET.envelope("job-1", ARGV), Signer())
    renamed = msgspec.structs.replace(command.signatures[0], key_id=FLEET.signer.key_id)
    assert rule_of(msgspec.structs.replace(command, signatures=[renamed])) is Rule.SIGNATURE


def test_a_revoked_key_is_refused() -> None:
    trust = parse_trust(FLEET.trust(revoked_key_ids=[FLEET.signer.key_id]))
    assert rule_of(order(), trust=trust) is Rule.REVOKED_KEY


def test_an_expired_key_is_refused() -> None:
    trust = parse_trust(FLEET.trust(signers=[FLEET.signer.as_trusted(not_after_ms=now_ms() - 1)]))
    assert rule_of(order(), trust=trust) is Rule.EXPIRED_KEY


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"organisation_id": "org-2"}, Rule.ORGANISATION),
        ({"agent_id": "agent-2"}, Rule.AGENT),
        ({"expires_at": 1}, Rule.EXPIRED),
        ({"action": "script", "script_sha256": "00"}, Rule.SCRIPT),
    ],
)
def test_a_signed_order_that_is_not_for_here_and_now_is_refused(changes: dict[str, Any], rule: Rule) -> None:
    assert rule_of(order(**changes)) is rule


def test_an_order_under_another_commands_id_is_refused() -> None:
    assert rule_of(FLEET.command(FLEET.envelope("job-1", ARGV), command_id="job-2")) is Rule.JOB_ID


def test_an_order_ends_at_its_very_millisecond() -> None:
    command = order(expires_at=5_000_000_000_000)
    assert rule_of(command, now_ms=5_000_000_000_000, trust=_ageless()) is Rule.EXPIRED
    assert isinstance(judge(command, grounds(now_ms=4_999_999_999_999, trust=_ageless())), Permitted)


def test_an_order_from_before_a_lost_journal_is_refused() -> None:
    issued = now_ms()
    assert rule_of(order(issued_at=issued), not_before_ms=issued + 1) is Rule.JOURNAL_LOST
    assert isinstance(judge(order(issued_at=issued), grounds(not_before_ms=issued)), Permitted)


def test_an_action_outside_the_policy_is_refused() -> None:
    assert rule_of(order(), allowed_actions=set()) is Rule.ACTION
    refusal = judge(order(action="service"), grounds(allowed_actions={"script", "exec"}))
    assert isinstance(refusal, Denied)
    assert refusal.message.startswith("no job may do service on this machine")
    assert refusal.message.endswith("allows exec, script")


def test_size_comes_before_everything() -> None:
    huge = msgspec.structs.replace(order(), payload="A" * 300_000)
    assert rule_of(huge) is Rule.TOO_LARGE


@pytest.mark.parametrize("payload", ["not base64!", "AAA"])
def test_what_is_no_base64_is_refused(payload: str) -> None:
    assert rule_of(msgspec.structs.replace(order(), payload=payload)) is Rule.MALFORMED


@pytest.mark.parametrize(
    "exact", [b"{}", b"[]", b"\xff", b'{"kind":"jtnt.job.v1"}', b'{"kind":"jtnt.trust.v1"}', b"[" * 5000]
)
def test_a_signed_order_that_cannot_be_read_is_refused(exact: bytes) -> None:
    envelope = FLEET.envelope("job-1", ARGV)
    assert rule_of(command_of(exact, FLEET.signer.sign(exact), "job-1", envelope)) is Rule.MALFORMED


@pytest.mark.parametrize("signature", ["", "AAAA", "%%%", "A" * 88])
def test_a_malformed_signature_is_refused(signature: str) -> None:
    command = order()
    entry = msgspec.structs.replace(command.signatures[0], signature=signature)
    assert rule_of(msgspec.structs.replace(command, signatures=[entry])) is Rule.SIGNATURE


def _ageless() -> Any:
    return parse_trust(FLEET.trust(signers=[FLEET.signer.as_trusted(not_after_ms=2**53)]))
