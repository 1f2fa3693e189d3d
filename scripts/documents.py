"""The AsyncAPI document of both sockets and the OpenAPI document of the REST routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from protocol.actions import DATA
from protocol.catalogue import (
    CLOSE_CODES,
    ERROR_CODES,
    FRAME_ANSWERS,
    OPERATION_SUMMARIES,
    REST_ANSWERS,
    REST_REQUESTS,
    ROUTES,
    Credential,
    Listener,
    Route,
)
from protocol.desired import AgentConfig, AgentPolicy, CertificateTerms
from protocol.elements import Frame
from protocol.enrollment import ErrorReply
from protocol.envelope import JobEnvelope, TrustDocument
from protocol.events import DASHBOARD_EVENTS
from protocol.frames import AGENT_FRAMES, HUB_FRAMES
from protocol.limits import AGENT_SOCKET_PATH, DASHBOARD_SOCKET_PATH, PROTOCOL_VERSION, SUBPROTOCOL
from protocol.operations import OPERATIONS
from protocol.requests import Refusal
from scripts.schemas import Components, Schema, components

SCHEMAS: Final = "#/components/schemas/"
LICENSE: Final = {"name": "Apache-2.0"}
AGENT_CERTIFICATE: Final = {
    "type": "X509",
    "description": "A client certificate with one URI: spiffe://<domain>/org/<id>/agent/<id>.",
}
ACCESS_TOKEN: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "Sent as Socket.IO `auth: {token}`.",
}
CREDENTIALS: Final = {
    Credential.ORGANISATION_KEY.value: {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    Credential.REFRESH_COOKIE.value: {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-jtnt_refresh",
        "description": "Set by sign-in. Over plain HTTP on loopback its name is `jtnt_refresh`.",
    },
}
OWN_PAGE: Final = {
    "name": "X-Requested-With",
    "in": "header",
    "required": True,
    "schema": {"const": "jtnt"},
    "description": "No form of another site can send it.",
}
AGENTS: Final = "agents"
DASHBOARDS: Final = "dashboards"
_HOSTS: Final = {Listener.AGENTS: "localhost:3001", Listener.PEOPLE: "localhost:3000"}
_STATUS_TEXTS: Final = {
    200: "Done.",
    201: "Created.",
    202: "A person has to approve; ask again.",
    204: "Done; no body.",
    400: "`invalid_request`: the body is no JSON or a field is wrong; `path` names it.",
    401: "`token_refused`, `unauthenticated` or `otp_required`.",
    403: "`quota` or `forbidden`.",
    404: "`not_found`.",
    409: "`key_in_use` or `conflict`.",
    413: "`too_large`.",
    429: "`rate_limited`: ask again after `retryAfterSec`.",
    503: "`busy` or not ready: ask again.",
}


def asyncapi() -> Schema:
    """Return the AsyncAPI 3.0 document, as the hub acts: it receives what others send."""
    requests = [operation.request for operation in OPERATIONS.values()]
    replies = [operation.reply for operation in OPERATIONS.values()]
    known = components(
        [
            *HUB_FRAMES,
            JobEnvelope,
            TrustDocument,
            AgentConfig,
            AgentPolicy,
            CertificateTerms,
            *DASHBOARD_EVENTS.values(),
            *replies,
            Refusal,
        ],
        [*AGENT_FRAMES, *DATA.values(), *requests],
        SCHEMAS,
    )
    frames = _frame_messages(known)
    dashboard = _dashboard_messages(known)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "JTNT sockets",
            "version": str(PROTOCOL_VERSION),
            "description": "The agents' WebSocket and the dashboards' Socket.IO. The rules are in protocol/README.md.",
            "license": LICENSE,
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": _channels(list(frames), list(dashboard)),
        "operations": _agent_operations() | _event_operations() | _asked_operations(),
        "components": {
            "messages": frames | dashboard,
            "schemas": known.schemas,
            "securitySchemes": {"agentCertificate": AGENT_CERTIFICATE, "accessToken": ACCESS_TOKEN},
        },
    }


def _servers() -> Schema:
    return {
        AGENTS: {
            "host": _HOSTS[Listener.AGENTS],
            "protocol": "wss",
            "description": f"TLS 1.3 with a client certificate; WebSocket subprotocol `{SUBPROTOCOL}`.",
            "security": [{"$ref": "#/components/securitySchemes/agentCertificate"}],
        },
        DASHBOARDS: {
            "host": _HOSTS[Listener.PEOPLE],
            "protocol": "socketio",
            "description": f"Socket.IO 4 at path `{DASHBOARD_SOCKET_PATH}`, websocket or polling.",
            "security": [{"$ref": "#/components/securitySchemes/accessToken"}],
        },
    }


def _channels(frames: Sequence[str], dashboard: Sequence[str]) -> Schema:
    closes = "\n".join(f"- {code.value}: {meaning}" for code, meaning in CLOSE_CODES.items())
    errors = "\n".join(f"- `{code.value}`: {meaning}" for code, meaning in ERROR_CODES.items())
    return {
        AGENTS: {
            "address": AGENT_SOCKET_PATH,
            "servers": [{"$ref": f"#/servers/{AGENTS}"}],
            "description": f"JSON text frames, tagged by `type`.\n\nClose codes:\n{closes}",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in frames},
        },
        DASHBOARDS: {
            "address": DASHBOARD_SOCKET_PATH,
            "servers": [{"$ref": f"#/servers/{DASHBOARDS}"}],
            "description": "Socket.IO events; an operation is an event with an acknowledgement.\n\n"
            f"Error codes of a refusal:\n{errors}",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in dashboard},
        },
    }


def _message(name: str, body: type, payload: Schema) -> Schema:
    summary = {"summary": _first_sentence(body.__doc__)} if body.__doc__ else {}
    return {"name": name, "title": body.__name__} | summary | {"payload": payload}


def _frame_messages(known: Components) -> Schema:
    taken = {frame.__name__: _message(_type_of(frame), frame, known.taken(frame)) for frame in AGENT_FRAMES}
    sent = {frame.__name__: _message(_type_of(frame), frame, known.sent(frame)) for frame in HUB_FRAMES}
    return taken | sent


def _dashboard_messages(known: Components) -> Schema:
    messages = {event.__name__: _message(name, event, known.sent(event)) for name, event in DASHBOARD_EVENTS.items()}
    for name, (request, reply) in OPERATIONS.items():
        messages[f"{_key_of(name)}Request"] = _message(name, request, known.taken(request))
        messages[f"{_key_of(name)}Reply"] = _message(name, reply, known.sent(reply))
    return messages | {"Refusal": _message("refusal", Refusal, known.sent(Refusal))}


def _agent_operations() -> Schema:
    operations = {}
    for action, direction in (("receive", AGENT_FRAMES), ("send", HUB_FRAMES)):
        for frame in direction:
            operations[f"{action}{frame.__name__}"] = _operation(
                action, AGENTS, frame.__name__, [answer.__name__ for answer in FRAME_ANSWERS.get(frame, ())]
            )
    return operations


def _event_operations() -> Schema:
    return {
        f"send{event.__name__}": _operation("send", DASHBOARDS, event.__name__) for event in DASHBOARD_EVENTS.values()
    }


def _asked_operations() -> Schema:
    operations = {}
    for name in OPERATIONS:
        key = _key_of(name)
        asked = _operation("receive", DASHBOARDS, f"{key}Request", [f"{key}Reply", "Refusal"])
        operations[f"receive{key}"] = {"title": name, "summary": OPERATION_SUMMARIES[name]} | asked
    return operations


def _operation(action: str, channel: str, message: str, answers: Sequence[str] = ()) -> Schema:
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message}"}],
    }
    if answers:
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [{"$ref": f"#/channels/{channel}/messages/{answer}"} for answer in answers],
        }
    return operation


def openapi() -> Schema:
    """Return the OpenAPI 3.1 document."""
    known = components(REST_ANSWERS, REST_REQUESTS, SCHEMAS)
    paths: dict[str, Schema] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {"servers": [_rest_server(route.listener)]})[route.method] = _path_item(
            route, known
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "JTNT REST",
            "version": str(PROTOCOL_VERSION),
            "description": "REST is for enrollment and sign-in; all else goes over the sockets (docs/asyncapi.json).",
            "license": LICENSE,
        },
        "paths": paths,
        "components": {
            "schemas": known.schemas,
            "securitySchemes": CREDENTIALS,
        },
    }


def _rest_server(listener: Listener) -> Schema:
    scheme = "https" if listener is Listener.AGENTS else "http"
    return {"url": f"{scheme}://{_HOSTS[listener]}", "description": f"The listener for {listener.value}"}


def _path_item(route: Route, known: Components) -> Schema:
    answers = {
        str(status): {"description": _STATUS_TEXTS[status]} | (_json_body(known.sent(body)) if body is not None else {})
        for status, body in route.answers.items()
    }
    refusals = {
        str(status): {"description": _STATUS_TEXTS[status]} | _json_body(known.sent(ErrorReply))
        for status in route.errors
    }
    item: dict[str, Any] = {
        "operationId": _key_of(route.path.removeprefix("/api/").removeprefix("v1/")),
        "summary": route.summary,
        "responses": answers | refusals,
        "security": [{route.credential.value: []}] if route.credential else [],
    }
    if route.credential is Credential.REFRESH_COOKIE:
        item["parameters"] = [OWN_PAGE]
    if route.request is not None:
        item["requestBody"] = {"required": True} | _json_body(known.taken(route.request))
    return item


def _json_body(schema: Schema) -> Schema:
    return {"content": {"application/json": {"schema": schema}}}


def _type_of(frame: type[Frame]) -> str:
    tag = frame.__struct_config__.tag
    if not isinstance(tag, str):
        raise TypeError(f"{frame.__name__} has no type")
    return tag


def _key_of(name: str) -> str:
    """Return `agents:list` and `/auth/sign-in` as `AgentsList` and `AuthSignIn`."""
    return "".join(part.capitalize() for part in re.split(r"[^0-9A-Za-z]+", name))


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0].rstrip(".") + "."
