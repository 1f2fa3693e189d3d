"""The table from an error to what a peer is told has a line for every code, and gives nothing away."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from hub_server.errors import Forbidden, RateLimited, TokenRefused
from hub_server.gateway import faults
from protocol.codec import BadFrame, FrameTooLarge
from protocol.codes import ErrorCode
from protocol.operations import AgentsGet

SECRET = "password=hunter2 in /var/lib/jtnt"


def test_every_code_has_a_status() -> None:
    assert set(faults.STATUS) == set(ErrorCode)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Forbidden("no"), 403),
        (TokenRefused("no"), 401),
        (BadFrame("bad", "$.a"), 400),
        (FrameTooLarge(2, 1), 413),
        (OperationalError("select", {}, sqlite3.OperationalError(SECRET)), 503),
        (TimeoutError(SECRET), 503),
        (IntegrityError("insert", {}, sqlite3.IntegrityError(SECRET)), 500),
        (ZeroDivisionError(SECRET), 500),
    ],
)
def test_an_error_has_one_answer_everywhere(error: Exception, status: int) -> None:
    response = faults.response_of(error)
    assert isinstance(response.body, bytes)
    told = msgspec.json.decode(response.body)["error"]
    assert response.status == status
    assert faults.refusal_of(error) == {"ok": False, "error": told}
    assert SECRET not in response.body.decode()
    assert "SQL" not in response.body.decode()


def test_a_wait_is_told_in_the_header_too() -> None:
    response = faults.response_of(RateLimited("slower", retry_after_seconds=7))
    assert (response.status, response.headers["Retry-After"]) == (429, "7")


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(msgspec.ValidationError) as wrong:
        msgspec.convert({"agentId": 5}, AgentsGet)
    assert faults.body_of(wrong.value).path == "$.agentId"
