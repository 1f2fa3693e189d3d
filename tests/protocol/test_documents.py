"""The generated files are fresh, refer to what exists, and describe the golden files."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from protocol.catalogue import CLOSE_CODES, ERROR_CODES, FRAME_ANSWERS, OPERATION_SUMMARIES, ROUTES
from protocol.codes import CloseCode, ErrorCode
from protocol.enumerations import (
    AgentStatus,
    AgentTrust,
    AlertSeverity,
    AlertState,
    ApprovalKind,
    ApprovalState,
    AuthorityState,
    AuthorityUse,
    CertificateState,
    CommandReason,
    CommandStatus,
    ConnectionReason,
    DesiredName,
    GoodbyeReason,
    RefusalAction,
    Role,
)
from protocol.events import DASHBOARD_EVENTS
from protocol.frames import AGENT_FRAMES, HUB_FRAMES
from protocol.limits import (
    AGENT_SILENCE_HEARTBEATS,
    AGENT_SOCKET_PATH,
    BACKOFF_INITIAL_SECONDS,
    BACKOFF_MAX_SECONDS,
    FEED_CONFIRM_EVERY,
    FEED_LAG_MAX,
    FIRST_RETRY_SPREAD_SECONDS,
    FRAME_MAX_BYTES,
    FRAMES_BURST,
    FRAMES_PER_SECOND,
    HEARTBEAT_SECONDS,
    HELLO_MAX_BYTES,
    HELLO_TIMEOUT_SECONDS,
    JSON_MAX_DEPTH,
    OFFLINE_AFTER_SECONDS,
    OUTPUT_CREDITS,
    PING_AFTER_HEARTBEATS,
    SAMPLE_SECONDS,
    SAMPLES_PER_FRAME_MAX,
    STREAM_CREDITS,
    SUBPROTOCOL,
    UNSUBSCRIBED_AGENTS_MAX,
)
from protocol.operations import OPERATIONS
from scripts import generate
from tests.protocol.golden_files import EXAMPLES, FOLDER

ROOT: Final = Path(__file__).resolve().parent.parent.parent
ASYNCAPI: Final[dict[str, Any]] = json.loads((ROOT / "docs/asyncapi.json").read_text())
OPENAPI: Final[dict[str, Any]] = json.loads((ROOT / "docs/openapi.json").read_text())
TYPESCRIPT: Final = (ROOT / "static/src/generated/protocol.ts").read_text()
DEADLINE_SECONDS: Final = 120
SHOWN_WORDS: Final = (
    AgentStatus,
    AgentTrust,
    AlertSeverity,
    AlertState,
    ApprovalKind,
    ApprovalState,
    AuthorityState,
    AuthorityUse,
    CertificateState,
    CommandReason,
    CommandStatus,
    ConnectionReason,
    DesiredName,
    GoodbyeReason,
    RefusalAction,
    Role,
)

REFERENCE: Final = {"type": "object", "required": ["$ref"], "maxProperties": 1}
REFERENCES: Final = {"type": "array", "minItems": 1, "items": REFERENCE}
ASYNCAPI_SHAPE: Final = {
    "type": "object",
    "required": ["asyncapi", "info", "servers", "channels", "operations", "components"],
    "additionalProperties": False,
    "properties": {
        "asyncapi": {"const": "3.0.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "defaultContentType": {"const": "application/json"},
        "servers": {
            "additionalProperties": {
                "required": ["host", "protocol"],
                "propertyNames": {"enum": ["host", "protocol", "description", "security"]},
            }
        },
        "channels": {
            "additionalProperties": {
                "required": ["address", "servers", "messages"],
                "properties": {"servers": REFERENCES, "messages": {"additionalProperties": REFERENCE}},
            }
        },
        "operations": {
            "additionalProperties": {
                "required": ["action", "channel", "messages"],
                "propertyNames": {"enum": ["action", "channel", "messages", "reply", "title", "summary"]},
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": REFERENCE,
                    "messages": REFERENCES,
                    "reply": {"required": ["channel", "messages"], "properties": {"messages": REFERENCES}},
                },
            }
        },
        "components": {
            "required": ["messages", "schemas", "securitySchemes"],
            "properties": {
                "messages": {
                    "additionalProperties": {
                        "required": ["name", "title", "payload"],
                        "properties": {"payload": REFERENCE},
                    }
                }
            },
        },
    },
}
OPENAPI_SHAPE: Final = {
    "type": "object",
    "required": ["openapi", "info", "paths", "components"],
    "additionalProperties": False,
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "required": ["servers"],
                "propertyNames": {"enum": ["servers", "get", "post"]},
                "patternProperties": {
                    "^(get|post)$": {
                        "required": ["operationId", "summary", "responses"],
                        "properties": {
                            "responses": {
                                "minProperties": 1,
                                "propertyNames": {"pattern": "^[1-5][0-9][0-9]$"},
                                "additionalProperties": {"required": ["description"]},
                            },
                            "requestBody": {"required": ["content"]},
                        },
                    }
                },
            },
        },
        "components": {"required": ["schemas", "securitySchemes"]},
    },
}


def test_the_generated_files_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_file_is_named_by_the_check_and_written_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    stale = tmp_path / "docs/openapi.json"
    stale.write_text("{}")

    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("stale: docs/openapi.json; ")
    assert stale.read_text() == "{}"

    assert generate.main([]) == 0
    assert capsys.readouterr().out == "wrote docs/openapi.json\n"
    assert stale.read_text() == (ROOT / "docs/openapi.json").read_text()


@pytest.mark.parametrize(("document", "shape"), [(ASYNCAPI, ASYNCAPI_SHAPE), (OPENAPI, OPENAPI_SHAPE)])
def test_a_document_has_the_shape_of_its_specification(document: dict[str, Any], shape: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(shape)
    jsonschema.Draft202012Validator(shape).validate(document)


@pytest.mark.parametrize("document", [ASYNCAPI, OPENAPI], ids=["asyncapi", "openapi"])
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(_references_in(document))

    assert len(references) > 10
    for reference in references:
        assert reference.startswith("#/")
        node: Any = document
        for step in reference[2:].split("/"):
            assert step in node, reference
            node = node[step]


@pytest.mark.parametrize("document", [ASYNCAPI, OPENAPI], ids=["asyncapi", "openapi"])
def test_every_schema_is_used_and_a_schema(document: dict[str, Any]) -> None:
    used = {reference.rpartition("/")[2] for reference in _references_in(document)}
    unreferenced = {
        "JobEnvelope",
        "TrustDocument",
        "AgentPolicy",
        "CertificateTerms",
        "ExecData",
        "ScriptData",
        "ServiceData",
        "KillData",
        "PackagesData",
        "RebootData",
        "AgentRestartData",
    }  # travel inside base64 or open bodies

    assert set(document["components"]["schemas"]) - used <= unreferenced
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_golden_file_fits_its_documented_schema(name: str) -> None:
    document = OPENAPI if name.startswith("rest.") else ASYNCAPI
    known = document["components"]["schemas"]
    title = type(EXAMPLES[name]).__name__
    takes_input = name.startswith("request.") and f"{title}Input" in known
    validator = jsonschema.Draft7Validator(
        {"$ref": f"#/components/schemas/{title}{'Input' if takes_input else ''}", "components": document["components"]}
    )

    validator.validate(json.loads((FOLDER / name).read_bytes()))


def test_what_the_hub_sends_is_documented_with_all_its_fields() -> None:
    known = ASYNCAPI["components"]["schemas"]

    assert set(known["Welcome"]["required"]) == set(known["Welcome"]["properties"])
    assert set(known["AgentsStatus"]["required"]) == set(known["AgentsStatus"]["properties"])
    assert known["AgentsList"]["required"] == []
    assert known["Hello"]["required"] != list(known["Hello"]["properties"])
    assert "required" not in known["ThresholdsInput"] or known["ThresholdsInput"]["required"] == []
    assert set(known["Thresholds"]["required"]) == set(known["Thresholds"]["properties"])
    assert known["Error"]["required"] == ["type", "code", "message"]
    assert known["ErrorBody"]["required"] == ["code", "message"]


def test_every_message_has_its_operation() -> None:
    operations = ASYNCAPI["operations"]
    wanted = {
        *(f"receive{frame.__name__}" for frame in AGENT_FRAMES),
        *(f"send{frame.__name__}" for frame in HUB_FRAMES),
        *(f"send{event.__name__}" for event in DASHBOARD_EVENTS.values()),
    }
    asked = {operation["title"] for operation in operations.values() if "title" in operation}

    assert wanted < set(operations)
    assert asked == set(OPERATIONS)
    assert len(operations) == len(wanted) + len(OPERATIONS)


def test_an_answer_goes_the_other_way() -> None:
    for frame, answers in FRAME_ANSWERS.items():
        asked, answering = (AGENT_FRAMES, HUB_FRAMES) if frame in AGENT_FRAMES else (HUB_FRAMES, AGENT_FRAMES)
        assert frame in asked
        assert set(answers) <= set(answering)


def test_every_code_and_operation_has_its_meaning_in_the_documents() -> None:
    agents, dashboards = (ASYNCAPI["channels"][name]["description"] for name in ("agents", "dashboards"))

    assert set(CLOSE_CODES) == set(CloseCode)
    assert set(ERROR_CODES) == set(ErrorCode)
    assert set(OPERATION_SUMMARIES) == set(OPERATIONS)
    assert all(f"- {code.value}: " in agents for code in CloseCode)
    assert all(f"- `{code.value}`: " in dashboards for code in ErrorCode)


def test_every_route_is_documented_once() -> None:
    documented = [(path, method) for path, item in OPENAPI["paths"].items() for method in item if method != "servers"]
    names = [
        item[method]["operationId"] for item in OPENAPI["paths"].values() for method in item if method != "servers"
    ]

    assert documented == [(route.path, route.method) for route in ROUTES]
    assert len(set(names)) == len(names)


def test_typescript_names_every_event_and_operation() -> None:
    events = dict(re.findall(r'^  "([a-z:-]+)": \(event: (\w+)\) => void;$', TYPESCRIPT, re.MULTILINE))
    pairs = re.findall(r'"([a-z:-]+)": \{\s+request: (\w+);\s+reply: (\w+);\s+\}', TYPESCRIPT)
    operations = {name: (request, reply) for name, request, reply in pairs}
    exported = re.findall(r"^export (?:interface|type) (\w+)", TYPESCRIPT, re.MULTILINE)

    assert events == {name: event.__name__ for name, event in DASHBOARD_EVENTS.items()}
    assert operations == {name: (pair.request.__name__, pair.reply.__name__) for name, pair in OPERATIONS.items()}
    assert len(set(exported)) == len(exported)
    assert {"AgentsStatus", "AgentFilter", "EnrollReply", "SignInRequest", "ErrorReply", "Refusal"} < set(exported)
    assert not [name for name in exported if name[-1].isdigit()], "a schema that was written out twice"


def test_the_document_for_implementers_names_every_message_and_code() -> None:
    document = (ROOT / "protocol/README.md").read_text()
    words = {
        *(str(frame.__struct_config__.tag) for frame in (*AGENT_FRAMES, *HUB_FRAMES)),
        *DASHBOARD_EVENTS,
        *OPERATIONS,
        *(code.value for code in ErrorCode),
        *(word.value for kind in SHOWN_WORDS for word in kind),
        SUBPROTOCOL,
        AGENT_SOCKET_PATH,
    }
    routes = {route.path for route in ROUTES}
    closes = {f"| {code.value} |" for code in CloseCode}

    assert {word for word in words if f"`{word}`" not in document} == set()
    assert {text for text in routes | closes if text not in document} == set()


@pytest.mark.parametrize(
    "promise",
    [
        f"A frame has at most\n{FRAME_MAX_BYTES // 1024} KiB, `hello` {HELLO_MAX_BYTES // 1024} KiB",
        f"Nothing nests deeper than {JSON_MAX_DEPTH} levels",
        f"`hello` within {HELLO_TIMEOUT_SECONDS:g} seconds",
        f"| 1 to {SAMPLES_PER_FRAME_MAX} samples of one lane |",
        f"{STREAM_CREDITS} where one is not named, {OUTPUT_CREDITS} for `output`",
        f"more than {FRAMES_PER_SECOND} frames a second, after a burst of {FRAMES_BURST},",
        f"a heartbeat every {HEARTBEAT_SECONDS} s, a sample every {SAMPLE_SECONDS} s",
        f"Nothing for {PING_AFTER_HEARTBEATS} heartbeats: the hub pings. Nothing for {OFFLINE_AFTER_SECONDS:g} s",
        f"nothing came for {AGENT_SILENCE_HEARTBEATS} heartbeats",
        f"uniformly within {FIRST_RETRY_SPREAD_SECONDS:g} seconds",
        f"Repeated failures wait {BACKOFF_INITIAL_SECONDS:g} s, doubled up to {BACKOFF_MAX_SECONDS / 60:g}\nminutes",
        f"first {UNSUBSCRIBED_AGENTS_MAX} agents by name",
        f"`confirmEvery`-th version ({FEED_CONFIRM_EVERY} now",
        f"lags more than {FEED_LAG_MAX} versions",
    ],
)
def test_the_document_for_implementers_gives_the_limits_that_hold(promise: str) -> None:
    assert promise in (ROOT / "protocol/README.md").read_text()


def _references_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references_in(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references_in(item)
