import ast
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub_server import logs

METHODS: Final = frozenset({"debug", "info", "warning", "error", "exception", "critical"})


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
    structlog.get_logger(component="test").info("agent connected", agent_id="a-1", reason="two\nlines")
    (record,) = records(stream)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "component": "test",
        "level": "info",
        "message": "agent connected",
        "agent_id": "a-1",
        "reason": "two\nlines",
    }


def test_a_field_that_nobody_allowed_is_left_out_and_named(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    structlog.get_logger().info("x", token="hidden", password="hidden", agent_id="seen", body={"any": "hidden"})
    assert "hidden" not in stream.getvalue()
    (record,) = records(stream)
    assert (record["agent_id"], record["left_out"]) == ("seen", ["body", "password", "token"])


def test_every_field_of_the_source_is_allowed_and_no_other() -> None:
    """A field that is not on the list would never be seen."""
    used = {"people_port", "agents_port", "event", "level", "timestamp", "component", "exception"}
    for file in Path(logs.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method)) if method in METHODS:
                    used |= {keyword.arg for keyword in node.keywords if keyword.arg not in {None, "exc_info"}}
                case _:
                    pass
    assert used == logs.FIELDS


PEM = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SECRETS = {
    "enrollment token": ("jtnte_4fG.c2VjcmV0c2VjcmV0.cGlu.Y3Jj", "jtnte_4fG.***"),
    "refresh token": ("jtntr_abc.c2VjcmV0-c2Vj_cmV0", "jtntr_abc.***"),
    "API key": ("jtntk_abc.c2VjcmV0c2VjcmV0", "jtntk_abc.***"),
    "organisation key": ("itsk_abc.c2VjcmV0c2VjcmV0", "itsk_abc.***"),
    "organisation key in one piece": ("itsk_c2VjcmV0c2VjcmV0c2VjcmV0", "itsk_***"),
    "access token": ("eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl", "eyJ***"),
    "private key": (PEM.strip(), "-----BEGIN PRIVATE KEY-----***"),
    "private key on one line": (PEM.strip().replace("\n", "\\n"), "-----BEGIN PRIVATE KEY-----***"),
    "half a private key": (PEM[:80], "-----BEGIN PRIVATE KEY-----***"),
    "seed of codes": ("otpauth://totp/JTNT:ada?secret=JBSWY3DPEHPK3PXP", "otpauth://***"),
    "database's password": ("postgresql://jtnt:hunter2@db.example/jtnt", "postgresql://jtnt:***@db.example/jtnt"),
    "header": ("Authorization: Bearer c2VjcmV0c2VjcmV0", "Authorization: *** ***"),
    "bearer": ("says bearer c2VjcmV0c2VjcmV0", "says bearer ***"),
    "field": ('{"username": "ada", "password": "hunter2"}', '{"username": "ada", "password": "***"}'),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_what_has_the_form_of_a_secret_is_hidden_wherever_it_is(stream: io.StringIO, kind: str) -> None:
    secret, shown = SECRETS[kind]
    logs.configure("debug", stream)
    log = structlog.get_logger()
    log.info(f"said {secret}", reason=f"<{secret}>", detail={"a": [secret], secret: 1, "password": secret})
    logging.getLogger("library").warning("told %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed", error=ValueError(secret))
    assert secret not in stream.getvalue().replace("\\n", "\n")
    said, told, failed = records(stream)
    assert said["message"] == f"said {shown}"
    assert said["detail"]["a"] == [shown]
    assert said["detail"]["password"] == "***"
    assert shown in said["detail"]
    assert told["message"] == f"told {shown}"
    assert failed["error"] == shown
    assert f"ValueError: {shown}" in failed["exception"]


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
    structlog.get_logger().info("x", path=object(), samples=2**70)
    structlog.get_logger().info("x", reason="\ud800")
    first, second = records(stream)
    assert "object at" in first["path"]
    assert second["message"] == "x"


def test_records_below_the_level_are_left_out(stream: io.StringIO) -> None:
    logs.configure("error", stream)
    structlog.get_logger().warning("quiet")
    structlog.get_logger().error("loud")
    assert [record["message"] for record in records(stream)] == ["loud"]
