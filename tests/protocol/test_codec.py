import json
from typing import Any

import msgspec
import msgspec.inspect
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.codec import (
    OPEN_FRAMES,
    BadFrame,
    FrameTooLarge,
    UnknownFrameType,
    decode,
    decode_agent_frame,
    decode_hub_frame,
    encode,
)
from protocol.elements import Frame
from protocol.enrollment import RegisterRequest
from protocol.frames import AGENT_FRAMES, HUB_FRAMES, Event, Goodbye, Metrics
from protocol.limits import FRAME_MAX_BYTES, JSON_MAX_DEPTH
from tests.protocol.examples.frames import FRAMES
from tests.protocol.strategies import JSON, messages

EVENT = b'{"type":"event","epoch":1,"seq":1,"ts":1,"kind":%s,"data":{}}'
GOODBYE_WITH = b'{"type":"goodbye","reason":"sleep","later":%s}'
INVENTORY = b'{"type":"inventory","hash":"h","body":{"a":%s}}'
SAMPLE = (
    b'{"type":"metrics","epoch":1,"lane":"live","samples":[{"seq":%s,"ts":1,"metricType":"system","metricData":%s}]}'
)

MALFORMED: dict[str, tuple[bytes | str, str, str]] = {
    "nothing": (b"", "", "truncated"),
    "no JSON": (b"hello", "", "malformed"),
    "cut off": (b'{"type":"goodbye","reason":"sle', "", "truncated"),
    "text after the frame": (b'{"type":"goodbye","reason":"sleep"} x', "", "trailing"),
    "a byte order mark": (b'\xef\xbb\xbf{"type":"goodbye","reason":"sleep"}', "", "malformed"),
    "not a number": (GOODBYE_WITH % b"NaN", "", "malformed"),
    "no UTF-8": (EVENT % b'"\xff"', "", "UTF-8"),
    "half a surrogate pair": (EVENT % b'"\\ud800 and more"', "", "surrogate"),
    "a surrogate in text": (EVENT.decode() % '"\ud800"', "", "UTF-8"),
    "a control character": (EVENT % b'"\x01"', "", "malformed"),
    "a NUL": (EVENT % b'"a\\u0000b"', "", "NUL"),
    "a NUL in a key": (b'{"type":"inventory","hash":"h","body":{"a\\u0000":1}}', "", "NUL"),
    "a NUL where nobody looks": (GOODBYE_WITH % b'"\\u0000"', "", "NUL"),
    "too deep": (INVENTORY % (b"[" * JSON_MAX_DEPTH + b"]" * JSON_MAX_DEPTH), "", "deeper than 16"),
    "far too deep": (INVENTORY % (b"[" * 100_000 + b"]" * 100_000), "", "deep"),
    "an array": (b"[]", "$", "Expected `object`"),
    "null": (b"null", "$", "Expected `object`"),
    "no type": (b'{"reason":"sleep"}', "$", "missing required field `type`"),
    "a type that is no text": (b'{"type":5}', "$.type", "Expected `str`"),
    "an unknown type and then a cut": (b'{"type":"telepathy"', "$.type", "truncated"),
    "an unknown type and then another": (b'{"type":"telepathy","type":5}', "$.type", "Expected `str`"),
    "a missing field": (b'{"type":"goodbye"}', "$", "missing required field `reason`"),
    "a word not in its set": (b'{"type":"goodbye","reason":"bored"}', "$.reason", "Invalid enum value 'bored'"),
    "an empty word": (EVENT % b'""', "$.kind", "length >= 1"),
    "a fraction for a whole number": (SAMPLE % (b"1.5", b"{}"), "$.samples[0].seq", "Expected `int`"),
    "a number below its range": (SAMPLE % (b"0", b"{}"), "$.samples[0].seq", "Expected `int` >= 1"),
    "a number that is not finite": (SAMPLE % (b"1", b'{"a":1e999}'), "$.samples[0].metricData[...]", "out of range"),
    "a number beyond 64 bits": (SAMPLE % (b"1", b'{"a":%s}' % (b"9" * 400)), "$.samples[0].metricData[...]", "<="),
    "a value that nests": (
        SAMPLE % (b"1", b'{"a":{"b":1}}'),
        "$.samples[0].metricData[...]",
        "Expected `bool | int | float | str | array | null`",
    ),
    "no samples": (b'{"type":"metrics","epoch":1,"lane":"live","samples":[]}', "$.samples", "length >= 1"),
}  # fmt: skip


@pytest.mark.parametrize("cause", MALFORMED)
def test_what_is_no_frame_is_refused_with_the_path_of_its_fault(cause: str) -> None:
    raw, path, message = MALFORMED[cause]

    with pytest.raises(BadFrame, match=message.replace("|", r"\|")) as caught:
        decode_agent_frame(raw)

    assert caught.value.path == path
    assert not isinstance(caught.value, (UnknownFrameType, FrameTooLarge))


@pytest.mark.parametrize("raw", [b'{"type":"telepathy","to":"all"}', b'{"to":"all","type":"tele\\u0070athy"}'])
def test_an_unknown_type_is_named(raw: bytes) -> None:
    with pytest.raises(UnknownFrameType) as caught:
        decode_agent_frame(raw)

    assert caught.value.frame_type == "telepathy"
    assert caught.value.path == "$.type"


def test_the_name_of_an_unknown_type_is_cut() -> None:
    with pytest.raises(UnknownFrameType) as caught:
        decode_agent_frame(b'{"type":"%s"}' % (b"x" * 1000))

    assert caught.value.frame_type == "x" * 64


@pytest.mark.parametrize("raw", [b"[" + b" " * FRAME_MAX_BYTES, "é" * (FRAME_MAX_BYTES // 2 + 1)])
def test_a_frame_is_measured_in_bytes_before_it_is_read(raw: bytes | str) -> None:
    with pytest.raises(FrameTooLarge, match=str(FRAME_MAX_BYTES)):
        decode_agent_frame(raw)


def test_a_frame_of_just_the_limit_is_read() -> None:
    frame = b'{"type":"goodbye","reason":"sleep"}'

    assert isinstance(decode_agent_frame(frame, len(frame)), Goodbye)
    with pytest.raises(FrameTooLarge):
        decode_agent_frame(frame, len(frame) - 1)


def test_the_words_for_a_nul_are_no_nul() -> None:
    frame = decode_agent_frame(EVENT % b'"a \\\\u0000 b"')

    assert isinstance(frame, Event)
    assert frame.kind == r"a \u0000 b"


def test_a_body_of_any_shape_may_nest_to_the_limit_and_no_further() -> None:
    def nested(levels: int) -> bytes:
        return INVENTORY % (b"[" * levels + b"]" * levels)

    above_the_lists = 2  # the frame and its body
    decode_agent_frame(nested(JSON_MAX_DEPTH - above_the_lists))
    with pytest.raises(BadFrame, match="deeper"):
        decode_agent_frame(nested(JSON_MAX_DEPTH - above_the_lists + 1))


def test_a_rest_body_of_any_shape_is_bounded_too() -> None:
    deep = b"[" * JSON_MAX_DEPTH + b"]" * JSON_MAX_DEPTH
    raw = b'{"hostname":"h","osType":"linux","agentVersion":"1","csrPem":"p","config":{"a":%s}}' % deep

    with pytest.raises(BadFrame, match="deeper"):
        decode(msgspec.json.Decoder(RegisterRequest), raw, FRAME_MAX_BYTES)


def test_the_frames_read_once_are_those_whose_types_bound_their_nesting() -> None:
    def holds_any(info: object) -> bool:
        if isinstance(info, msgspec.inspect.AnyType):
            return True
        if isinstance(info, (list, tuple)):
            return any(holds_any(part) for part in info)
        if isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
            return any(holds_any(getattr(info, name)) for name in info.__struct_fields__ if name != "cls")
        return False

    open_frames = {frame for frame in (*AGENT_FRAMES, *HUB_FRAMES) if holds_any(msgspec.inspect.type_info(frame))}

    assert open_frames == set(OPEN_FRAMES)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_fields_that_a_newer_side_adds_are_ignored(frame: Frame) -> None:
    extended: dict[str, Any] = json.loads(encode(frame)) | {"addedLater": {"deep": [1, {"er": None}]}}
    decoder = decode_agent_frame if isinstance(frame, AGENT_FRAMES) else decode_hub_frame

    assert decoder(json.dumps(extended)) == frame


def test_fields_added_inside_a_frame_are_ignored() -> None:
    frame = decode_agent_frame(SAMPLE.replace(b'"ts":1', b'"ts":1,"quality":"good"') % (b"1", b"{}"))

    assert isinstance(frame, Metrics)
    assert frame.samples[0].seq == 1


@given(st.binary(max_size=300) | st.text(max_size=300))
def test_arbitrary_bytes_are_a_frame_or_a_bad_frame(raw: bytes | str) -> None:
    _expect_frame_or_bad_frame(raw)


TAGS = sorted(str(frame.__struct_config__.tag) for frame in (*AGENT_FRAMES, *HUB_FRAMES))


@given(
    st.dictionaries(st.sampled_from(["type", "reason", "epoch", "samples", "name", "hash", "body", "x"]), JSON),
    st.sampled_from(TAGS) | st.text(),
)
@example({"reason": "sleep"}, "goodbye")
def test_arbitrary_json_objects_are_a_frame_or_a_bad_frame(fields: dict[str, Any], tag: str) -> None:
    _expect_frame_or_bad_frame(json.dumps({"type": tag} | fields))


@given(messages(*AGENT_FRAMES), st.data())
def test_a_damaged_frame_is_a_frame_or_a_bad_frame(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))

    _expect_frame_or_bad_frame(bytes(raw))
    _expect_frame_or_bad_frame(bytes(raw[:cut]))


@given(messages(*AGENT_FRAMES))
def test_any_frame_of_an_agent_comes_back_as_it_was(frame: Frame) -> None:
    assert decode_agent_frame(encode(frame)) == frame


@given(messages(*HUB_FRAMES))
def test_any_frame_of_a_hub_comes_back_as_it_was(frame: Frame) -> None:
    assert decode_hub_frame(encode(frame)) == frame


def _expect_frame_or_bad_frame(raw: bytes | str) -> None:
    for read in (decode_agent_frame, decode_hub_frame):
        try:
            frame = read(raw)
        except BadFrame:
            continue
        assert isinstance(frame, Frame)
