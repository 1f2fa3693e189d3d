import io
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog

from hub_server import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    configuration = structlog.get_config()
    yield io.StringIO()
    structlog.configure(**configuration)
    root.handlers, root.level = before, level


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_line_of_json(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    structlog.get_logger(component="test").info("agent connected", agent_id="a-1", text="two\nlines")
    (record,) = records(stream)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "component": "test",
        "level": "info",
        "message": "agent connected",
        "agent_id": "a-1",
        "text": "two\nlines",
    }


def test_secrets_never_get_there_at_any_depth(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    structlog.get_logger().info(
        "x",
        token="hidden",
        accessToken="hidden",
        password="hidden",
        token_id="seen",
        headers={"Authorization": "hidden", "Set-Cookie": "hidden", "X-API-Key": "hidden", "Accept": "seen"},
        client_secret=b"hidden",
    )
    assert "hidden" not in stream.getvalue()
    (record,) = records(stream)
    assert (record["token_id"], record["headers"]) == ("seen", {"Accept": "seen"})


def test_the_standard_librarys_records_are_among_them(stream: io.StringIO) -> None:
    logs.configure("warning", stream)
    logging.getLogger("some.library").warning("told %s", "once")
    logging.getLogger("some.library").info("not told")
    (record,) = records(stream)
    assert (record["component"], record["level"], record["message"]) == ("some.library", "warning", "told once")


def test_an_exception_is_in_its_record(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    password = "hunter2"
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed too")
    assert ["ValueError: broken" in record["exception"] for record in records(stream)] == [True, True]
    assert password not in stream.getvalue()


def test_what_json_does_not_know_is_written_as_text(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    structlog.get_logger().info("x", path=object(), number=2**70)
    structlog.get_logger().info("x", text="\ud800")
    first, second = records(stream)
    assert "object at" in first["path"]
    assert second["message"] == "x"


def test_records_below_the_level_are_left_out(stream: io.StringIO) -> None:
    logs.configure("error", stream)
    structlog.get_logger().warning("quiet")
    structlog.get_logger().error("loud")
    assert [record["message"] for record in records(stream)] == ["loud"]
