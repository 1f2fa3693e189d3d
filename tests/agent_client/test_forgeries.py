"""What somebody can make who has the hub's database, its bus and its TLS key, but not the signer: nothing that runs.

Every forgery is made of true parts: the database holds orders that were signed once, the bus carries any frame, the
TLS key is a key that the fleet's root vouches for. A true order beside them, on the same grounds, is permitted.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_client.execution.journal import Journal
from agent_client.execution.verification import Audience, Denied, Grounds, Permitted, Rule, judge
from agent_client.policy.terms import policy_of
from agent_client.policy.verdict import Circumstances
from agent_client.spool.database import Database
from agent_client.trust.document import TrustError, parse_trust
from agent_client.trust.root import verify_trust
from agent_client.trust.signature import is_signed_by
from protocol.actions import script_body, script_hash
from protocol.enumerations import Action
from protocol.envelope import JobEnvelope, SignedTrust
from protocol.frames import Command, Signature
from tests.agent_client.clock import DrivenClock
from tests.agent_client.fleet import (
    AGENT,
    DOMAIN,
    ORGANISATION,
    Authority,
    Fleet,
    Signer,
    authority,
    now_ms,
)

FLEET = Fleet()
ADA, BEA, LATE, AUDITOR, UPDATER, STOLEN, OLD = (Signer() for _ in range(7))
TRUST = parse_trust(
    FLEET.trust(
        signers=[FLEET.signer.as_trusted(), STOLEN.as_trusted(), OLD.as_trusted(not_after_ms=now_ms() - 1)],
        audit_keys=[AUDITOR.as_trusted()],
        update_keys=[UPDATER.as_trusted()],
        operator_keys=[ADA.as_trusted(), BEA.as_trusted(), LATE.as_trusted(not_after_ms=now_ms() - 1)],
        revoked_key_ids=[STOLEN.key_id, BEA.key_id],
    )
)
TWO_SIGNATURES: Final = policy_of({"jobs": {"signatures": "hub+operator"}})
ONLY_LATE: Final = policy_of({"jobs": {"signatures": "hub+operator", "operator_keys": [LATE.key_id]}})
SCRIPT: Final = b"#!/bin/sh\nuptime\n"
Forged = tuple[str, Command, Grounds]


def grounds(**changes: Any) -> Grounds:
    values: dict[str, Any] = {
        "audience": Audience(ORGANISATION, AGENT),
        "trust": TRUST,
        "is_signed_by": is_signed_by,
        "now_ms": now_ms(),
        "allowed_actions": {action.value for action in Action},
    }
    return Grounds(**values | changes)


HERE: Final = grounds()
STRICT: Final = grounds(around=Circumstances(state=TWO_SIGNATURES))


def envelope(**changes: Any) -> JobEnvelope:
    values: dict[str, Any] = {
        "job_id": "job-1",
        "argv": ["uname", "-a"],
        "environment": {"LANG": "C"},
        "requested_by": "user:ada",
    }
    return FLEET.envelope(**values | changes)


def true_order(**changes: Any) -> Command:
    return FLEET.command(envelope(**changes))


def script_order() -> Command:
    order = envelope(action=Action.SCRIPT, argv=[], script_sha256=script_hash(SCRIPT), interpreter="sh")
    return msgspec.structs.replace(FLEET.command(order), script=script_body(SCRIPT))


TRUE: Final = true_order()
PAYLOAD: Final = base64.b64decode(TRUE.payload)


def carrying(payload: bytes, *signatures: Signature, of: Command = TRUE) -> Command:
    return msgspec.structs.replace(of, payload=base64.b64encode(payload).decode(), signatures=list(signatures))


def named(signature: Signature, key_id: str) -> Signature:
    return msgspec.structs.replace(signature, key_id=key_id)


def altered_bytes() -> Iterator[Forged]:
    """One bit of each byte of the order, pieces cut off or put on, and one bit of each byte of the signature."""
    for at in range(len(PAYLOAD)):
        changed = PAYLOAD[:at] + bytes([PAYLOAD[at] ^ 1 << at % 8]) + PAYLOAD[at + 1 :]
        yield f"bit of byte {at}", carrying(changed, *TRUE.signatures), HERE
    for at in range(0, len(PAYLOAD), 16):
        yield f"cut at {at}", carrying(PAYLOAD[:at], *TRUE.signatures), HERE
    for more in (b" ", b"\n", b"\0", b"{}", PAYLOAD):
        yield "put on", carrying(PAYLOAD + more, *TRUE.signatures), HERE
        yield "put before", carrying(more + PAYLOAD, *TRUE.signatures), HERE
    raw = base64.b64decode(TRUE.signatures[0].signature)
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :]
        signature = Signature(key_id=FLEET.signer.key_id, signature=base64.b64encode(changed).decode())
        yield f"bit of the signature's byte {at}", carrying(PAYLOAD, signature), HERE


def other_words() -> Iterator[Forged]:
    """Orders of the thief's own under the true signature, and under those of keys that are none of the signer's."""
    wishes: dict[str, Any] = {
        "argv": ["rm", "-rf", "/"],
        "environment": {"LD_PRELOAD": "/tmp/x.so"},
        "working_directory": "/tmp",
        "run_as": "root",
        "timeout_sec": 86400.0,
        "expires_at": 2**50,
        "issued_at": 1,
        "job_id": "job-2",
        "requested_by": "user:bea",
        "output_limit_bytes": 1,
        "action": Action.REBOOT,
    }
    strangers = {"stranger": Signer(), "audit": AUDITOR, "update": UPDATER, "operator": ADA, "revoked operator": BEA}
    for field, wish in wishes.items():
        order = envelope(**{field: wish})
        payload = msgspec.json.encode(order)
        own = msgspec.structs.replace(TRUE, command_id=order.job_id)
        yield f"{field} under the true signature", carrying(payload, *TRUE.signatures, of=own), HERE
        for who, key in strangers.items():
            signature = key.sign(payload)
            yield f"{field} by {who}", carrying(payload, signature, of=own), HERE
            as_signer = named(signature, FLEET.signer.key_id)
            yield f"{field} by {who} as the signer", carrying(payload, as_signer, of=own), HERE
            yield f"{field} by {who} and once true", carrying(payload, signature, *TRUE.signatures, of=own), HERE


def other_keys() -> Iterator[Forged]:
    """The very bytes of a true order, signed by keys that do not count for orders, TLS keys among them."""
    for who, key in (("revoked", STOLEN), ("expired", OLD), ("operator", ADA), ("audit", AUDITOR), ("own", Signer())):
        yield who, carrying(PAYLOAD, key.sign(PAYLOAD)), HERE
        yield f"{who} four times", carrying(PAYLOAD, *[key.sign(PAYLOAD)] * 4), HERE
    yield "the fifth is true", carrying(PAYLOAD, *[Signer().sign(PAYLOAD)] * 4, *TRUE.signatures), HERE
    for who, ca in (("root", FLEET.root), ("servers' CA", FLEET.servers_ca), ("agents' CA", FLEET.agents_ca)):
        der = base64.b64encode(ca.key.sign(PAYLOAD, ECDSA(SHA256()))).decode()
        for key_id in ("root", FLEET.signer.key_id):
            yield f"by the {who} as {key_id}", carrying(PAYLOAD, Signature(key_id=key_id, signature=der)), HERE
    for text in ("", "AAAA", "%", "A" * 88, TRUE.signatures[0].signature[:-4]):
        yield "no signature", carrying(PAYLOAD, Signature(key_id=FLEET.signer.key_id, signature=text)), HERE
    yield "none at all", carrying(PAYLOAD), HERE


def true_but_not_here() -> Iterator[Forged]:
    """Orders that the signer has signed, brought where or when they were not meant, or with other things beside."""
    yield "another agent's", TRUE, grounds(audience=Audience(ORGANISATION, "agent-2"))
    yield "another organisation's", TRUE, grounds(audience=Audience("org-2", AGENT))
    yield "too late", TRUE, grounds(now_ms=now_ms() + 3_600_000)
    yield "from before the journal was lost", TRUE, grounds(not_before_ms=now_ms() + 3_600_000)
    yield "of another id", msgspec.structs.replace(TRUE, command_id="job-2"), HERE
    yield "another fleet's", TRUE, grounds(trust=parse_trust(Fleet().trust()))
    for body in (b"", SCRIPT + b" ", b"rm -rf /", SCRIPT[:-1]):
        yield "another script", msgspec.structs.replace(script_order(), script=script_body(body)), HERE
    yield "no base64", msgspec.structs.replace(script_order(), script="%"), HERE
    statements = (b"jtnt.checkpoint.v1\nhub\n1\n00\n1\n", msgspec.json.encode(TRUST), b"", b"[]", b"{}")
    unknown = (PAYLOAD[:-1] + b',"sudo":true}', PAYLOAD.replace(b"jtnt.job.v1", b"jtnt.job.v2"), b" " * 300_000)
    for statement in (*statements, *unknown):
        yield "signed, but no order", carrying(statement, FLEET.signer.sign(statement)), HERE


def without_a_second_signature() -> Iterator[Forged]:
    """What a thief of the signer too can make, where the machine wants a person's signature beside it."""
    hub = TRUE.signatures[0]
    other = true_order(argv=["uname"])
    for who, second in (
        ("nobody", []),
        ("the signer again", [hub]),
        ("the signer as ada", [named(hub, ADA.key_id)]),
        ("a stranger", [Signer().sign(PAYLOAD)]),
        ("a stranger as ada", [named(Signer().sign(PAYLOAD), ADA.key_id)]),
        ("one who was revoked", [BEA.sign(PAYLOAD)]),
        ("one whose key has ended", [LATE.sign(PAYLOAD)]),
        ("the audit", [AUDITOR.sign(PAYLOAD)]),
        ("ada of another order", [ADA.sign(base64.b64decode(other.payload))]),
        ("a revoked signer", [STOLEN.sign(PAYLOAD)]),
    ):
        yield f"hub and {who}", carrying(PAYLOAD, hub, *second), STRICT
        yield f"{who} and hub", carrying(PAYLOAD, *second, hub), STRICT
    yield "ada alone", carrying(PAYLOAD, ADA.sign(PAYLOAD)), STRICT
    both = parse_trust(FLEET.trust(operator_keys=[FLEET.signer.as_trusted()]))
    one_for_two = grounds(around=Circumstances(state=TWO_SIGNATURES), trust=both)
    yield "the signer, who is named as a person too", carrying(PAYLOAD, hub, hub), one_for_two
    only_late = grounds(around=Circumstances(state=ONLY_LATE))
    yield "ada, who does not count here", carrying(PAYLOAD, hub, ADA.sign(PAYLOAD)), only_late


KINDS: Final[tuple[Callable[[], Iterator[Forged]], ...]] = (
    altered_bytes,
    other_words,
    other_keys,
    true_but_not_here,
    without_a_second_signature,
)


def test_the_true_ones_are_permitted() -> None:
    assert isinstance(judge(TRUE, HERE), Permitted)
    assert isinstance(judge(script_order(), HERE), Permitted)
    assert isinstance(judge(carrying(PAYLOAD, *TRUE.signatures, ADA.sign(PAYLOAD)), STRICT), Permitted)
    assert isinstance(judge(carrying(PAYLOAD, ADA.sign(PAYLOAD), *TRUE.signatures), STRICT), Permitted)


@pytest.mark.parametrize("kind", KINDS)
def test_no_forgery_is_permitted(kind: Callable[[], Iterator[Forged]]) -> None:
    for what, command, around in kind():
        decision = judge(command, around)
        assert isinstance(decision, Denied), what
        assert decision.message, what


def test_there_are_more_than_five_hundred_of_them() -> None:
    assert len(list(itertools.chain.from_iterable(kind() for kind in KINDS))) > 650


@settings(max_examples=200)
@given(at=st.integers(0, len(PAYLOAD)), length=st.integers(0, 64), put=st.binary(max_size=64), data=st.data())
def test_no_change_anywhere_is_permitted(at: int, length: int, put: bytes, data: st.DataObject) -> None:
    changed = PAYLOAD[:at] + put + PAYLOAD[at + length :]
    keys = [FLEET.signer, ADA, STOLEN, OLD, AUDITOR]
    true = TRUE.signatures[0]
    entries = [named(true, key.key_id) for key in data.draw(st.lists(st.sampled_from(keys), max_size=4))]
    decision = judge(carrying(changed, *entries), HERE)
    is_true = changed == PAYLOAD and true in entries
    assert isinstance(decision, Permitted) is is_true


def forged_documents() -> Iterator[tuple[str, SignedTrust]]:
    """Trust documents that name the thief's key as the signer's, signed by whatever key there is but the root's."""
    thief = Signer()
    document = FLEET.trust_document(9, signers=[thief.as_trusted()])
    body = msgspec.json.encode(document)
    true = FLEET.trust()
    root_again: Authority = authority("fleet root")
    for who, ca in (("servers", FLEET.servers_ca), ("agents", FLEET.agents_ca), ("a root of one's own", root_again)):
        signature = base64.b64encode(ca.key.sign(body, ECDSA(SHA256()))).decode()
        yield (
            who,
            SignedTrust(
                document=base64.b64encode(body).decode(), signatures=[Signature(key_id="root", signature=signature)]
            ),
        )
    yield (
        "the signer",
        SignedTrust(document=base64.b64encode(body).decode(), signatures=[named(FLEET.signer.sign(body), "root")]),
    )
    yield "true signature", msgspec.structs.replace(true, document=base64.b64encode(body).decode())
    exact = base64.b64decode(true.document)
    for at in range(0, len(exact), 97):
        changed = exact[:at] + bytes([exact[at] ^ 1]) + exact[at + 1 :]
        yield f"bit of byte {at}", msgspec.structs.replace(true, document=base64.b64encode(changed).decode())


def test_nobody_but_the_root_names_a_signer() -> None:
    bundle = FLEET.bundle_pem.encode()
    assert verify_trust(FLEET.trust(), bundle, DOMAIN).version == 1
    for what, forged in forged_documents():
        try:
            verify_trust(forged, bundle, DOMAIN)
        except TrustError:
            continue
        pytest.fail(f"believed: {what}")


def test_a_true_order_that_is_replayed_is_known_after_restarts_and_with_the_clock_moved_back(tmp_path: Path) -> None:
    """The caller looks in the journal first; what it says is why a replay never comes before the judge."""
    clock = DrivenClock()
    times = {"issued_at": clock.now_ms(), "expires_at": clock.now_ms() + 60_000}
    ageless = parse_trust(FLEET.trust(signers=[FLEET.signer.as_trusted(not_after_ms=2**53)]))
    runs = 0
    for number in range(100):
        database = Database(tmp_path / "spool.db")
        journal = Journal(database, clock)
        for _ in range(10):
            order = true_order(**times)
            if journal.find(order.command_id) is None:
                decision = judge(order, grounds(now_ms=journal.effective_now_ms(), trust=ageless))
                assert isinstance(decision, Permitted)
                journal.accept(decision.envelope, decision.payload)
                runs += 1
            fresh = true_order(job_id="late", issued_at=clock.now_ms(), expires_at=times["issued_at"] - 1)
            late = judge(
                msgspec.structs.replace(fresh, command_id="late"),
                grounds(now_ms=journal.effective_now_ms(), trust=ageless),
            )
            assert isinstance(late, Denied)
            assert late.rule is Rule.EXPIRED
        database.close()
        clock.advance(-86400 if number % 2 else 10)
    assert runs == 1
