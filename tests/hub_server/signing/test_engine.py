"""What the signer signs and how much of it, by decisions alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.signing.engine import Bucket, Unsignable, order_in
from hub_server.signing.model import MESSAGE_MAX_BYTES, BadMessage, Frames, Make, Sign, frame_of, question_of
from tests.hub_server.signing.orders import payload

NOW = 1_795_000_000_000
WEEK_MS = 7 * 86_400_000


def made(**changes: Any) -> bytes:
    return payload(**{"issued_at": NOW, "expires_at": NOW + 60_000} | changes)


def test_an_order_in_order_is_signed() -> None:
    assert order_in(made(), NOW).agent_id == "agent-1"
    assert order_in(made(expires_at=NOW + WEEK_MS), NOW, {"org-1"}).action == "exec"


@pytest.mark.parametrize(
    ("bytes_", "said"),
    [
        (made(expires_at=NOW), "expired"),
        (made(expires_at=NOW + WEEK_MS + 600_000), "more than 7 days"),
        (made(issued_at=NOW + 600_000), "not issued at this time"),
        (made(issued_at=NOW - WEEK_MS - 1), "not issued at this time"),
        (made(organisation_id="org-2"), "does not sign for"),
        (b"", "no order"),
        (b"{}", "no order"),
        (b'{"kind":"jtnt.trust.v1"}', "no order"),
        (b"jtnt.checkpoint.v1\nhub\n1\n00\n1\n", "no order"),
        (made()[:-1] + b',"sudo":true}', "unknown field"),
        (made().replace(b"uptime", b"up\\u0000e"), "NUL"),
        (b" " * 300_000, "no order"),
    ],
)
def test_what_is_no_order_of_now_is_not_signed(bytes_: bytes, said: str) -> None:
    with pytest.raises(Unsignable, match=said):
        order_in(bytes_, NOW, {"org-1"})


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(per_second=2, burst=3, now_monotonic=100.0)
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(100.0) == pytest.approx(0.5)
    assert bucket.take(100.5) == 0
    assert bucket.take(99.0) == pytest.approx(0.5)  # a clock that went back gives nothing
    assert [bucket.take(1000.0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(1000.0) > 0


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 50))
def test_messages_come_out_of_the_stream_as_they_went_in(payloads: list[bytes], piece_bytes: int) -> None:
    asked = [Sign(number, "key", b"sealed", payload) for number, payload in enumerate(payloads)]
    stream = b"".join(map(frame_of, asked))
    frames = Frames()
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]
    assert [question_of(body) for piece in pieces for body in frames.feed(piece)] == asked


def test_a_message_without_bounds_or_sense_is_refused() -> None:
    with pytest.raises(BadMessage, match="limit"):
        Frames().feed((MESSAGE_MAX_BYTES + 1).to_bytes(4))
    with pytest.raises(BadMessage):
        question_of(b"\xc1")
    assert question_of(frame_of(Make(7))[4:]) == Make(7)
