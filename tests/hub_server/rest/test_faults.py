import msgspec
import pytest
from sqlalchemy.exc import OperationalError

from hub_server.errors import HubError, InvalidRequest, RateLimited
from hub_server.gateway.faults import STATUS, refusal_of
from protocol.codes import ErrorCode
from protocol.operations import AgentsList


def test_every_code_has_its_status() -> None:
    assert set(STATUS) == set(ErrorCode)


def test_a_refusal_is_what_the_protocol_says() -> None:
    error = InvalidRequest("give a name", path="$.name")
    assert refusal_of(error) == {
        "ok": False,
        "error": {"code": "invalid_request", "message": "give a name", "path": "$.name"},
    }
    assert refusal_of(RateLimited("slower", retry_after_seconds=3))["error"]["retryAfterSec"] == 3


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(msgspec.ValidationError) as wrong:
        msgspec.convert({"filter": {"tags": [1]}}, AgentsList)
    error = refusal_of(wrong.value)["error"]
    assert (error["code"], error["path"]) == ("invalid_request", "$.filter.tags[0]")


def test_a_database_that_is_away_is_said_to_be_busy() -> None:
    error = refusal_of(OperationalError("select secret", {}, Exception("no route to 10.0.0.5")))["error"]
    assert (error["code"], error["retryAfterSec"]) == ("unavailable", 1)
    assert "10.0.0.5" not in error["message"]


@pytest.mark.parametrize("error", [ZeroDivisionError("the secret"), HubError("x"), RecursionError("the secret")])
def test_the_unexpected_tells_nothing(error: Exception) -> None:
    refusal = refusal_of(error)
    assert refusal["error"]["code"] == "internal"
    assert "secret" not in str(refusal)
