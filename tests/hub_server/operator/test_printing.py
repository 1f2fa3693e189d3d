import io
from datetime import UTC, datetime

import msgspec

from hub_server.operator.cli.printing import Cleaner, JsonLines, NamedLines, Streams, json_text
from hub_server.operator.output import Chunk
from protocol.commands import CommandView
from protocol.enumerations import CommandStatus, OutputStream

OUT, ERR = OutputStream.STDOUT, OutputStream.STDERR
VIEW = CommandView(
    id="c-1",
    agent_id="a-1",
    command_type="exec",
    command_data={"argv": ["true"]},
    status=CommandStatus.COMPLETED,
    reason=None,
    exit_code=0,
    result="",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    created_by="user:ada",
    sent_at=None,
    started_at=None,
    finished_at=None,
    expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    output_bytes={},
    truncated=False,
)


def test_what_a_terminal_would_obey_is_made_visible() -> None:
    cleaner = Cleaner()
    hostile = "ok\tä\r\n\x1b[2J\x07\x9b1m\u202egnp\u200b\rover\x00\n".encode()
    cleaned = "".join(cleaner.clean(hostile[at : at + 1]) for at in range(len(hostile))) + cleaner.clean(
        b"", is_end=True
    )
    assert cleaned == "ok\tä\n\\x1b[2J\\x07\\x9b1m\\u202egnp\\u200b\\rover\\x00\n"


def test_bytes_that_are_no_text_and_a_character_cut_for_good_are_shown_as_numbers() -> None:
    cleaner = Cleaner()
    assert cleaner.clean(b"a\xffb\xc3") == "a\\xffb"
    assert cleaner.clean(b"", is_end=True) == "\\xc3"


async def test_without_a_terminal_bytes_pass_as_they_are() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    streams = Streams(out, err, cleaned={OUT: False, ERR: True})
    for stream in OutputStream:
        await streams.chunk(Chunk(stream, 0, b"\x1b[31m\xff\r"))
    await streams.end(VIEW)
    assert out.getvalue() == b"\x1b[31m\xff\r"
    assert err.getvalue() == rb"\x1b[31m\xff\r"


async def test_of_several_machines_come_whole_lines_with_a_name_that_is_no_trap() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    lines = NamedLines(out, err, "web\x1b[0m")
    for data in (b"one\ntw", b"o\nthr", b"ee"):
        await lines.chunk(Chunk(OUT, 0, data))
    await lines.chunk(Chunk(ERR, 0, b"x" * 40_000))
    assert out.getvalue().splitlines() == [rb"web\x1b[0m | one", rb"web\x1b[0m | two"]
    await lines.end(VIEW)
    assert out.getvalue().splitlines()[2:] == [rb"web\x1b[0m | three"]
    assert sum(line.count(b"x") - 1 for line in err.getvalue().splitlines()) == 40_000


def test_json_holds_nothing_that_a_terminal_obeys_and_says_the_same() -> None:
    hostile = {"a\u202e": "\x1b[2J\x9b1m\U000e0001ä"}
    text = json_text(hostile)
    assert text.isprintable()
    assert "ä" in text
    assert msgspec.json.decode(text) == hostile


async def test_programs_get_one_event_a_line() -> None:
    out = io.BytesIO()
    lines = JsonLines(out, "web-1")
    await lines.begin(VIEW)
    await lines.chunk(Chunk(OUT, 0, "ä\n".encode()))
    await lines.chunk(Chunk(ERR, 7, b"\xff"))
    await lines.end(VIEW)
    job, text, binary, result = map(msgspec.json.decode, out.getvalue().splitlines())
    common = {"agent": "web-1", "commandId": "c-1"}
    assert text == {"event": "output", **common, "stream": "stdout", "offset": 0, "data": "ä\n", "encoding": "utf8"}
    assert binary == {
        "event": "output",
        **common,
        "stream": "stderr",
        "offset": 7,
        "data": "/w==",
        "encoding": "base64",
    }
    assert [line["event"] for line in (job, result)] == ["job", "result"]
    assert result["command"]["exitCode"] == 0
