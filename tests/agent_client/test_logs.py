import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from agent_client.logs import Log, log_to


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, logging.getLogger("agent").level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("agent").setLevel(own)
    logging.captureWarnings(capture=False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_component_and_agent(stream: io.StringIO) -> None:
    log_to(stream, "debug").agent_id = "agent-7"
    log = Log("session")
    for say in (log.debug, log.info, log.warn, log.error, log.fatal):
        say("something happened", count=3, where="a\nb")
    written = lines(stream)
    assert [line["level"] for line in written] == ["debug", "info", "warn", "error", "fatal"]
    assert {(line["component"], line["agent_id"], line["message"], line["count"]) for line in written} == {
        ("session", "agent-7", "something happened", 3)
    }
    assert all(line["timestamp"].endswith("+00:00") for line in written)


def test_levels_below_the_set_one_are_not_written(stream: io.StringIO) -> None:
    log_to(stream, "warn")
    Log("session").info("not this")
    Log("session").warn("this")
    assert [line["message"] for line in lines(stream)] == ["this"]


def test_an_exception_stays_in_its_line(stream: io.StringIO) -> None:
    log_to(stream)
    try:
        raise ValueError("bad\nthing")
    except ValueError as error:
        Log("session").error("it failed", exception=error)
    assert "ValueError: bad\nthing" in lines(stream)[0]["exception"]


def test_libraries_speak_the_same_way_and_only_when_it_matters(stream: io.StringIO) -> None:
    log_to(stream, "debug")
    logging.getLogger("asyncio").info("not this")
    logging.getLogger("asyncio").error("task %s died", "x")
    assert [(line["component"], line["message"]) for line in lines(stream)] == [("asyncio", "task x died")]
