import base64
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from hub_server.operator.output import HELD_MAX_BYTES, PAGE_FULL_BYTES, Arrivals, Chunk, chunk_of
from protocol.commands import CommandsOutputReply
from protocol.enumerations import OutputStream, TextEncoding
from protocol.limits import OUTPUT_CHUNK_MAX_BYTES

OUT, ERR = OutputStream.STDOUT, OutputStream.STDERR
WRITTEN: Mapping[OutputStream, bytes] = {OUT: bytes(random.Random(1).randbytes(3000)), ERR: b"e" * 500}


def page(stream: OutputStream, offset: int, data: bytes, *, complete: bool = False) -> CommandsOutputReply:
    return CommandsOutputReply(
        command_id="c",
        stream=stream,
        offset=offset,
        data=base64.b64encode(data).decode(),
        encoding=TextEncoding.BASE64,
        next_offset=offset + len(data),
        complete=complete,
    )


def caught_up() -> Arrivals:
    arrivals = Arrivals()
    for stream in OutputStream:
        arrivals.give(page(stream, 0, b""))
    assert arrivals.asking() is None
    return arrivals


def test_a_new_reader_asks_for_both_streams_before_it_relies_on_events() -> None:
    arrivals = Arrivals()
    assert arrivals.asking() is OUT
    assert arrivals.give(page(OUT, 0, b"abc")) == Chunk(OUT, 0, b"abc")
    assert arrivals.asking() is ERR
    assert arrivals.give(page(ERR, 0, b"")) is None
    assert arrivals.asking() is None


def test_events_that_overlap_what_was_read_bring_only_what_is_new() -> None:
    arrivals = caught_up()
    for offset, data in ((0, b"abc"), (0, b"abc"), (1, b"bcde"), (5, b"f")):
        arrivals.note(Chunk(OUT, offset, data))
    assert [arrivals.take() for _ in range(3)] == [Chunk(OUT, 0, b"abc"), Chunk(OUT, 3, b"de"), Chunk(OUT, 5, b"f")]
    assert arrivals.take() is None


def test_a_gap_is_asked_for_and_what_came_behind_it_is_kept() -> None:
    arrivals = caught_up()
    arrivals.note(Chunk(OUT, 3, b"def"))
    assert arrivals.take() is None
    assert (arrivals.is_gapped, arrivals.asking(), arrivals.next_offset(OUT)) == (True, OUT, 0)
    assert arrivals.give(page(OUT, 0, b"abcd")) == Chunk(OUT, 0, b"abcd")
    assert arrivals.take() == Chunk(OUT, 4, b"ef")


def test_a_full_page_is_followed_by_another_question() -> None:
    arrivals = Arrivals()
    arrivals.give(page(OUT, 0, b"x" * PAGE_FULL_BYTES))
    assert (arrivals.asking(), arrivals.next_offset(OUT)) == (OUT, PAGE_FULL_BYTES)


def test_a_reader_that_does_not_keep_up_holds_no_more_than_its_bound_and_asks() -> None:
    arrivals, offset = caught_up(), 0
    while arrivals.asking() is None:
        arrivals.note(Chunk(OUT, offset, b"x" * OUTPUT_CHUNK_MAX_BYTES))
        offset += OUTPUT_CHUNK_MAX_BYTES
        assert offset <= HELD_MAX_BYTES + OUTPUT_CHUNK_MAX_BYTES
    assert arrivals.take() is None


def test_it_is_over_when_both_streams_are_complete() -> None:
    arrivals = Arrivals({OUT: 5})
    assert arrivals.next_offset(OUT) == 5
    arrivals.give(page(OUT, 5, b"", complete=True))
    assert not arrivals.is_over
    arrivals.note_missed()
    assert arrivals.asking() is ERR
    arrivals.give(page(ERR, 0, b"end", complete=True))
    assert arrivals.is_over


def test_data_that_are_no_base64_are_refused() -> None:
    assert chunk_of(page(OUT, 0, b"\xff")) == Chunk(OUT, 0, b"\xff")
    with pytest.raises(ValueError, match="base64"):
        chunk_of(structs.replace(page(OUT, 0, b""), data="/"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_byte_comes_once_and_in_order_whatever_is_lost_repeated_or_late(data: st.DataObject) -> None:
    arrivals, sent = Arrivals(), dict.fromkeys(OutputStream, 0)
    read = {stream: bytearray() for stream in OutputStream}

    def keep(chunk: Chunk | None) -> None:
        if chunk is not None:
            assert chunk.offset == len(read[chunk.stream])
            read[chunk.stream].extend(chunk.data)

    for _ in range(data.draw(st.integers(0, 40))):
        stream = data.draw(st.sampled_from(OutputStream))
        match data.draw(st.sampled_from(["send", "lose", "repeat", "read", "cut"])):
            case "send" | "lose" as what:
                length = data.draw(st.integers(1, 300))
                chunk = Chunk(stream, sent[stream], WRITTEN[stream][sent[stream] : sent[stream] + length])
                sent[stream] = chunk.end
                if what == "send":
                    arrivals.note(chunk)
            case "repeat":
                offset = data.draw(st.integers(0, sent[stream]))
                arrivals.note(Chunk(stream, offset, WRITTEN[stream][offset : sent[stream]]))
            case "read":
                keep(arrivals.take())
                if (asking := arrivals.asking()) is not None:
                    offset = arrivals.next_offset(asking)
                    until = data.draw(st.integers(offset, max(offset, sent[asking])))
                    keep(arrivals.give(page(asking, offset, WRITTEN[asking][offset:until])))
            case _:
                arrivals.note_missed()
    arrivals.note_missed()
    while not arrivals.is_over:
        if (taken := arrivals.take()) is not None:
            keep(taken)
        elif (asking := arrivals.asking()) is not None:
            offset = arrivals.next_offset(asking)
            keep(arrivals.give(page(asking, offset, WRITTEN[asking][offset : sent[asking]], complete=True)))
    assert {stream: bytes(got) for stream, got in read.items()} == {s: WRITTEN[s][: sent[s]] for s in OutputStream}
