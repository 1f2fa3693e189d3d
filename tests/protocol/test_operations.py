import json
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given

from protocol.codec import BadFrame, decode
from protocol.enrollment import EnrollRequest, SignInRequest
from protocol.events import DASHBOARD_EVENTS, DashboardEvent, name_of
from protocol.limits import FRAME_MAX_BYTES
from protocol.operations import OPERATIONS, AgentsUpdate
from protocol.requests import Refusal, Reply, Request
from protocol.telemetry import MetricsQuery
from tests.protocol.examples.bodies import REST_BODIES
from tests.protocol.examples.operations import REFUSAL, REPLIES, REQUESTS
from tests.protocol.strategies import messages

T = TypeVar("T")


def read(kind: type[T], body: object) -> T:
    return decode(msgspec.json.Decoder(kind), json.dumps(body), FRAME_MAX_BYTES)


def plain(value: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(msgspec.json.encode(value))
    return fields


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_field_that_a_request_does_not_have_is_refused(name: str) -> None:
    request = REQUESTS[name]

    with pytest.raises(BadFrame, match="unknown field `limmit`") as caught:
        read(type(request), plain(request) | {"limmit": 3})

    assert caught.value.path == "$"


@pytest.mark.parametrize(
    ("name", "field", "path"),
    [
        ("agents:list", "filter", "$.filter"),
        ("feed:subscribe", "filter", "$.filter"),
        ("agents:update", "thresholds", "$.thresholds"),
        ("agents:update", "config", "$.config"),
    ],
)
def test_an_unknown_field_inside_a_request_is_refused_with_its_path(name: str, field: str, path: str) -> None:
    request = REQUESTS[name]
    body = plain(request)
    body[field]["limmit"] = 3

    with pytest.raises(BadFrame, match="unknown field `limmit`") as caught:
        read(type(request), body)

    assert caught.value.path == path


@pytest.mark.parametrize(
    ("name", "change", "path"),
    [
        ("agents:list", {"limit": 0}, "$.limit"),
        ("agents:list", {"limit": 1001}, "$.limit"),
        ("agents:list", {"offset": -1}, "$.offset"),
        ("agents:list", {"sort": "colour"}, "$.sort"),
        ("agents:list", {"filter": {"status": ["ASLEEP"]}}, "$.filter.status[0]"),
        ("agents:get", {"agentId": ""}, "$.agentId"),
        ("agents:update", {"name": ""}, "$.name"),
        ("agents:update", {"thresholds": {"cpuWarning": 101}}, "$.thresholds.cpuWarning"),
        ("agents:update", {"config": {"sampleIntervalSec": 0}}, "$.config.sampleIntervalSec"),
        ("metrics:query", {"agentIds": []}, "$.agentIds"),
        ("metrics:query", {"maxPoints": 5001}, "$.maxPoints"),
        ("commands:create", {"commandType": "shell"}, "$.commandType"),
        ("commands:create", {"timeoutSec": 0}, "$.timeoutSec"),
        ("commands:get", {"commandId": "a/b"}, "$.commandId"),
        ("commands:output", {"stream": "stdin"}, "$.stream"),
        ("tokens:create", {"uses": 0}, "$.uses"),
        ("tokens:create", {"ttlSec": 59}, "$.ttlSec"),
        ("auth:refresh", {"token": 5}, "$.token"),
    ],
)
def test_a_wrong_field_of_a_request_is_refused_with_its_path(name: str, change: dict[str, Any], path: str) -> None:
    request = REQUESTS[name]

    with pytest.raises(BadFrame) as caught:
        read(type(request), plain(request) | change)

    assert caught.value.path == path


def test_a_field_that_an_update_leaves_out_is_not_the_same_as_an_empty_one() -> None:
    untouched = read(AgentsUpdate, {"agentId": "a"})
    emptied = read(AgentsUpdate, {"agentId": "a", "tags": [], "site": ""})

    assert untouched.tags is untouched.site is msgspec.UNSET
    assert (emptied.tags, emptied.site) == ([], "")
    assert plain(untouched) == {"agentId": "a"}


def test_a_query_calls_its_bounds_from_and_to() -> None:
    query = read(MetricsQuery, {"agentIds": ["a"], "metrics": ["cpu_percent"], "from": 1, "to": 2})

    assert (query.from_, query.to) == (1, 2)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_reply_says_ok(name: str) -> None:
    assert plain(REPLIES[name])["ok"] is True


def test_a_refusal_says_not_ok_and_leaves_out_what_it_does_not_know() -> None:
    error = msgspec.structs.replace(REFUSAL.error, path=None, retry_after_sec=None)

    assert plain(Refusal(error=error)) == {
        "error": {"code": "invalid_request", "message": "Expected `int` >= 1"},
        "ok": False,
    }


@pytest.mark.parametrize("body", REST_BODIES, ids=lambda body: type(body).__name__)
def test_fields_added_to_a_rest_body_are_ignored(body: msgspec.Struct) -> None:
    assert read(type(body), plain(body) | {"addedLater": [1]}) == body


@pytest.mark.parametrize(
    ("kind", "body", "path"),
    [
        (SignInRequest, {"username": "", "password": "p"}, "$.username"),
        (SignInRequest, {"username": "ada"}, "$"),
        (EnrollRequest, plain(REST_BODIES[1]) | {"sysinfo": {"hostname": "h", "os": 5}}, "$.sysinfo.os"),
        (EnrollRequest, plain(REST_BODIES[1]) | {"token": "t" * 257}, "$.token"),
    ],
)
def test_a_wrong_field_of_a_rest_body_is_refused_with_its_path(kind: type, body: object, path: str) -> None:
    with pytest.raises(BadFrame) as caught:
        read(kind, body)

    assert caught.value.path == path


@given(messages(*{operation.request for operation in OPERATIONS.values()}))
def test_any_request_comes_back_as_it_was(request: Request) -> None:
    assert msgspec.json.decode(msgspec.json.encode(request), type=type(request)) == request


@given(messages(*{operation.reply for operation in OPERATIONS.values()}))
def test_any_reply_comes_back_as_it_was(reply: Reply) -> None:
    assert msgspec.json.decode(msgspec.json.encode(reply), type=type(reply)) == reply


@given(messages(*DASHBOARD_EVENTS.values()))
def test_any_event_comes_back_as_it_was_and_has_a_name(event: DashboardEvent) -> None:
    assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event
    assert DASHBOARD_EVENTS[name_of(event)] is type(event)
