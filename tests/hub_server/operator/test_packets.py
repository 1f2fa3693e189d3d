from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_server.operator import packets
from hub_server.operator.packets import BadPacket, read, refusal_in, reply_of
from protocol.codes import ErrorCode
from protocol.commands import CommandsGet
from protocol.people import AccountGetReply


def test_what_a_hub_says_is_read() -> None:
    opened = read(b'0{"sid":"x","upgrades":[],"pingTimeout":20000,"pingInterval":25000,"maxPayload":262144}')
    assert isinstance(opened, packets.Opened)
    assert opened.silence_seconds == 45
    assert read(b'40{"sid":"y"}') == packets.Admitted()
    assert read(b"2") == packets.Ping()
    assert read(b"41") == read(b"1") == packets.Parted()
    assert read(b"6") == read(b"") == packets.Unheeded()
    heard = read(b'42["agent:alert",{"a":1}]')
    assert isinstance(heard, packets.Heard)
    assert (heard.name, bytes(heard.body)) == ("agent:alert", b'{"a":1}')
    answered = read(b'4317[{"ok":true}]')
    assert isinstance(answered, packets.Answered)
    assert (answered.number, bytes(answered.body)) == (17, b'{"ok":true}')
    away = read(b'44{"message":"unavailable","data":{"code":"unavailable","message":"too many","retryAfterSec":3}}')
    assert isinstance(away, packets.TurnedAway)
    assert (away.error.code, away.error.retry_after_sec) == (ErrorCode.UNAVAILABLE, 3)


@pytest.mark.parametrize("message", [b"0{}", b"42[]", b"42", b"43[{}]", b"43x", b"4312[]", b"44{}", b"44", b"0\xff"])
def test_what_is_no_packet_is_refused(message: bytes) -> None:
    with pytest.raises(BadPacket):
        read(message)


@given(
    st.binary(max_size=40) | st.sampled_from([b"42", b"43", b"44", b"0"]).flatmap(lambda h: st.binary().map(h.__add__))
)
def test_any_bytes_are_a_packet_or_refused_as_none(message: bytes) -> None:
    with suppress(BadPacket):
        read(message)


def test_a_question_is_written_as_the_protocol_has_it() -> None:
    text = packets.question_packet(5, "commands:get", CommandsGet(command_id="a-b"))
    assert text == '425["commands:get",{"commandId":"a-b"}]'
    assert packets.sign_in_packet('a"b') == '40{"token":"a\\"b"}'


def test_an_answer_is_a_reply_or_a_refusal_and_nothing_else() -> None:
    assert refusal_in(msgspec.Raw(b'{"ok":true,"command":{}}')) is None
    error = refusal_in(msgspec.Raw(b'{"ok":false,"error":{"code":"forbidden","message":"no"}}'))
    assert error is not None
    assert error.code is ErrorCode.FORBIDDEN
    for body in (b'{"ok":false}', b"[]", b'{"error":1}'):
        with pytest.raises(BadPacket):
            refusal_in(msgspec.Raw(body))
    with pytest.raises(BadPacket, match="another version"):
        reply_of(msgspec.Raw(b'{"ok":true}'), AccountGetReply)
