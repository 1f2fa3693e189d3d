from __future__ import annotations

import base64
import os
import re
import resource
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent_client.execution.capture import CHUNK_MAX_BYTES, Capture, Chunk, as_chunk
from protocol.codec import decode_agent_frame, encode
from protocol.enumerations import OutputStream, TextEncoding
from protocol.frames import CommandOutput

OUT = OutputStream.STDOUT
GAP = re.compile("\n\\[… (\\d+) bytes left out …\\]\n".encode())


def raw(chunk: Chunk) -> bytes:
    return chunk.data.encode() if chunk.encoding is TextEncoding.UTF8 else base64.b64decode(chunk.data)


@given(st.lists(st.binary(max_size=200) | st.text(max_size=50).map(str.encode), max_size=8))
def test_what_is_written_is_read_back_byte_for_byte_whatever_it_is(parts: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        capture = Capture(Path(folder) / "jobs", "job-1", 1 << 20)
        read, offset = b"", 0
        for part in parts:
            capture.write(OUT, part)
            while chunk := capture.read(OUT, offset, is_complete=False):
                read += raw(chunk)
                offset += chunk.length_bytes
        while chunk := capture.read(OUT, offset, is_complete=True):
            read += raw(chunk)
            offset += chunk.length_bytes
        capture.discard()
        assert read == b"".join(parts)


@given(st.text().filter(lambda text: "\0" not in text))
def test_text_cut_inside_a_character_waits_for_the_rest(text: str) -> None:
    data = text.encode()
    for cut in range(1, len(data)):
        chunk = as_chunk(data[:cut], is_last=False)
        if chunk is not None:
            assert chunk.encoding is TextEncoding.UTF8
            assert data.startswith(chunk.data.encode())
            assert cut - chunk.length_bytes <= 3


def test_bytes_that_are_no_text_go_as_base64() -> None:
    assert as_chunk(b"\xff\xfe\x00", is_last=True) == Chunk("//4A", TextEncoding.BASE64, 3)
    assert as_chunk("é".encode()[:1], is_last=True) == Chunk("ww==", TextEncoding.BASE64, 1)
    assert as_chunk("é".encode()[:1], is_last=False) is None


def test_a_nul_which_the_wire_refuses_goes_as_base64() -> None:
    chunk = as_chunk(b"a\0b", is_last=True)
    assert chunk is not None
    assert chunk.encoding is TextEncoding.BASE64


def test_the_worst_chunk_still_fits_a_frame(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "jobs", "job-1", 1 << 20)
    capture.write(OUT, b"\x1b" * 100_000)
    chunk = capture.read(OUT, 0, is_complete=True)
    capture.discard()
    assert chunk is not None
    assert (chunk.length_bytes, chunk.encoding) == (CHUNK_MAX_BYTES, TextEncoding.BASE64)
    frame = CommandOutput(command_id="j", stream=OUT, offset=0, data=chunk.data, encoding=chunk.encoding)
    assert decode_agent_frame(encode(frame)) == frame


def test_a_new_life_of_the_agent_takes_up_what_the_old_one_captured(tmp_path: Path) -> None:
    old = Capture(tmp_path / "jobs", "job-1", 100)
    old.write(OUT, b"before the crash")
    old.close()
    new = Capture(tmp_path / "jobs", "job-1", 100)
    assert new.sizes == {OUT: 16}
    chunk = new.read(OUT, 7, is_complete=True)
    assert chunk is not None
    assert chunk.data == "the crash"
    new.discard()
    assert list((tmp_path / "jobs").iterdir()) == []


def test_output_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "jobs", "job-1", 100)
    capture.write(OUT, b"x")
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "jobs").iterdir()] == [0o600]
    capture.discard()


@given(st.lists(st.tuples(st.sampled_from(OutputStream), st.binary(max_size=400)), max_size=12), st.integers(0, 1500))
def test_of_each_stream_the_beginning_and_the_end_are_kept_within_the_limit_and_the_gap_is_said(
    writes: list[tuple[OutputStream, bytes]], limit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        capture = Capture(Path(folder) / "jobs", "job-1", limit)
        written = dict.fromkeys(OutputStream, b"")
        for stream, data in writes:
            capture.write(stream, data)
            written[stream] += data
        capture.finish()
        assert sum(capture.sizes.values()) <= limit
        lost = False
        for stream in OutputStream:
            kept = _kept(capture, stream)
            lost = lost or kept != written[stream]
            gap = GAP.search(kept)
            if kept != written[stream] and gap is not None:
                head, tail = kept[: gap.start()], kept[gap.end() :]
                assert written[stream].startswith(head)
                assert written[stream].endswith(tail)
                assert len(head) + int(gap[1]) + len(tail) == len(written[stream])
            else:
                assert written[stream].startswith(kept)
        assert capture.truncated == lost
        capture.discard()
        assert not list(Path(folder).rglob("*std*"))


def _kept(capture: Capture, stream: OutputStream) -> bytes:
    kept, offset = b"", 0
    while chunk := capture.read(stream, offset, is_complete=True):
        kept += raw(chunk)
        offset += chunk.length_bytes
    return kept


def test_the_end_of_a_hundred_megabytes_costs_no_more_disk_than_the_limit(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "jobs", "job-1", 1 << 20)
    block = b"x" * (1 << 18)
    for _ in range(400):
        capture.write(OUT, block)
    assert sum(path.stat().st_size for path in (tmp_path / "jobs").iterdir()) == 1 << 20
    capture.write(OUT, b"the end")
    capture.finish()
    assert _kept(capture, OUT).endswith(b"xxthe end")
    assert capture.written == {OUT: 400 * (1 << 18) + 7}
    capture.discard()


def test_what_the_disk_does_not_give_back_ends_the_stream_there_and_is_said(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "jobs", "job-1", 1000)
    capture.write(OUT, b"a" * 700)
    os.truncate(tmp_path / "jobs" / "job-1.stdout", 300)
    assert _kept(capture, OUT) == b"a" * 300
    assert (capture.sizes, capture.truncated) == ({OUT: 300}, True)
    capture.finish()
    assert _kept(capture, OUT) == b"a" * 300
    capture.discard()
    assert capture.read(OUT, 0, is_complete=True) is None
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_folder_that_others_may_write_to_takes_no_output_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs").chmod(0o777)
    capture = Capture(tmp_path / "jobs", "job-1", 1000)
    capture.write(OUT, b"a")
    assert (capture.sizes, capture.truncated, capture.written) == ({}, True, {OUT: 1})


def test_an_end_that_the_disk_does_not_take_is_said_to_be_missing(tmp_path: Path) -> None:
    capture = Capture(tmp_path / "jobs", "job-1", 1000)
    capture.write(OUT, b"a" * 700)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (550, hard))
    try:
        capture.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (capture.sizes, capture.truncated) == ({OUT: 550}, True)
    capture.discard()


def test_a_life_that_ended_in_between_leaves_the_beginning_and_says_so(tmp_path: Path) -> None:
    old = Capture(tmp_path / "jobs", "job-1", 1000)
    old.write(OUT, b"a" * 700)
    old.close()
    new = Capture(tmp_path / "jobs", "job-1", 0)
    assert (new.sizes, new.truncated) == ({OUT: 500}, True)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["job-1.stdout"]
    new.discard()
