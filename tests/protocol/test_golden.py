"""What every message looks like on the wire, byte for byte."""

from collections import Counter

import msgspec
import pytest
from msgspec.structs import fields

from protocol.catalogue import REST_ANSWERS, REST_REQUESTS
from protocol.codec import decode_agent_frame, decode_hub_frame, encode, encode_text
from protocol.envelope import JobEnvelope, TrustDocument
from protocol.events import DASHBOARD_EVENTS
from protocol.frames import AGENT_FRAMES, HUB_FRAMES
from protocol.operations import OPERATIONS
from tests.protocol.examples.bodies import REST_BODIES, SIGNED_BODIES
from tests.protocol.examples.events import EVENTS
from tests.protocol.examples.frames import FRAMES
from tests.protocol.examples.operations import REPLIES, REQUESTS
from tests.protocol.golden_files import EXAMPLES, FOLDER, bytes_of

ALWAYS_SO = {"ok", "status", "command_type"}
"""Fields that have one value, or one so far."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_message_is_written_as_its_golden_file(name: str) -> None:
    path = FOLDER / name
    expected = bytes_of(EXAMPLES[name])

    assert path.is_file(), f"no golden file; `python -m tests.protocol.golden_files` writes it: {expected!r}"
    assert path.read_bytes() == expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_golden_file_is_read_as_its_message(name: str) -> None:
    example = EXAMPLES[name]

    assert msgspec.json.decode((FOLDER / name).read_bytes(), type=type(example)) == example


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("frame.")])
def test_a_golden_frame_is_read_by_the_side_it_is_for_and_by_no_other(name: str) -> None:
    example = EXAMPLES[name]
    raw = (FOLDER / name).read_bytes()

    for decode, known in ((decode_agent_frame, AGENT_FRAMES), (decode_hub_frame, HUB_FRAMES)):
        if isinstance(example, known):
            assert decode(raw) == example
            assert decode(raw.decode()) == example
        else:
            with pytest.raises(ValueError, match="unknown frame type"):
                decode(raw)


def test_bytes_and_text_of_a_frame_are_the_same() -> None:
    for frame in FRAMES:
        assert encode_text(frame).encode() == encode(frame)


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(EXAMPLES)


def test_every_message_has_exactly_one_golden_file_and_so_one_round_trip() -> None:
    assert Counter(type(frame) for frame in FRAMES) == Counter({*AGENT_FRAMES, *HUB_FRAMES})
    assert Counter(type(event) for event in EVENTS) == Counter(DASHBOARD_EVENTS.values())
    assert {name: type(request) for name, request in REQUESTS.items()} == {
        name: operation.request for name, operation in OPERATIONS.items()
    }
    assert {name: type(reply) for name, reply in REPLIES.items()} == {
        name: operation.reply for name, operation in OPERATIONS.items()
    }
    assert Counter(type(body) for body in REST_BODIES) == Counter((*REST_REQUESTS, *REST_ANSWERS))
    assert Counter(type(body) for body in SIGNED_BODIES) == Counter((JobEnvelope, TrustDocument))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_sets_every_field_so_that_its_golden_file_shows_it(name: str) -> None:
    example = EXAMPLES[name]
    left_at_default = {
        field.name
        for field in fields(example)
        if field.default is not msgspec.NODEFAULT and getattr(example, field.name) == field.default
    } | {
        field.name
        for field in fields(example)
        if field.default_factory is not msgspec.NODEFAULT and getattr(example, field.name) == field.default_factory()
    }

    assert left_at_default <= ALWAYS_SO
