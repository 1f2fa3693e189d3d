"""What is said where: routes, answers to frames, and the meaning of every code and operation.

The documents in `docs/` are written from this; nothing here is needed to speak the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from protocol.codes import CloseCode, ErrorCode
from protocol.elements import Frame
from protocol.enrollment import (
    CaReply,
    EnrollPending,
    EnrollReply,
    EnrollRequest,
    ErrorReply,
    RecoverRequest,
    RegisterReply,
    RegisterRequest,
    SignInReply,
    SignInRequest,
)
from protocol.frames import (
    CertificateReply,
    CertificateRequest,
    Command,
    CommandAccepted,
    CommandCancel,
    CommandOutput,
    CommandOutputAck,
    CommandQuery,
    CommandResult,
    CommandResultAck,
    CommandState,
    Desired,
    DesiredApplied,
    DesiredRejected,
    Event,
    EventAck,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Inventory,
    InventoryAck,
    Metrics,
    MetricsAck,
    Refuse,
    Welcome,
)

FRAME_ANSWERS: Final[Mapping[type[Frame], tuple[type[Frame], ...]]] = {
    Hello: (Welcome, Refuse),
    Heartbeat: (HeartbeatAck,),
    Metrics: (MetricsAck,),
    Event: (EventAck,),
    Inventory: (InventoryAck,),
    CommandOutput: (CommandOutputAck,),
    CommandResult: (CommandResultAck,),
    CertificateRequest: (CertificateReply,),
    Command: (CommandAccepted, CommandResult),
    CommandCancel: (CommandResult,),
    CommandQuery: (CommandState,),
    Desired: (DesiredApplied, DesiredRejected),
}
"""The frames that answer a frame. Any frame may be answered with `error` instead; the rest are not answered."""

CLOSE_CODES: Final[Mapping[CloseCode, str]] = {
    CloseCode.BAD_FRAME: "a frame could not be read, or came out of order; connect again with the usual backoff",
    CloseCode.IDENTITY_UNKNOWN: "the hub does not know this certificate's agent; enroll again",
    CloseCode.REVOKED: "the agent is revoked or in quarantine; try again every 15 minutes",
    CloseCode.NO_HELLO: "no `hello` came within 5 seconds",
    CloseCode.SUPERSEDED: "a newer session of the same agent took over",
    CloseCode.SLOW_CONSUMER: "the peer took too long to read what was sent to it",
    CloseCode.TOO_LARGE: "a frame was larger than its limit",
    CloseCode.VERSION: "no protocol version in common; update the agent",
    CloseCode.BUSY: "the hub has no room now; come back after the time that `refuse` gave",
    CloseCode.HUB_FAULT: "the hub failed; connect again with the usual backoff",
    CloseCode.DRAINING: "the hub is stopping; come back in the slot that `drain` gave",
}

ERROR_CODES: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.UNAUTHENTICATED: "nobody is signed in, or the sign-in has ended",
    ErrorCode.FORBIDDEN: "whoever asks may not do this",
    ErrorCode.UNKNOWN_OPERATION: "there is no operation of this name",
    ErrorCode.INVALID_REQUEST: "a field is missing, unknown or wrong; `path` names it",
    ErrorCode.NOT_FOUND: "what the request names does not exist in this organisation",
    ErrorCode.CONFLICT: "the request does not fit the present state",
    ErrorCode.RATE_LIMITED: "too many requests; ask again after `retryAfterSec`",
    ErrorCode.QUOTA: "a limit of the organisation is reached",
    ErrorCode.UNAVAILABLE: "a part of the hub does not answer now; ask again",
    ErrorCode.INTERNAL: "the hub failed; its log says more",
    ErrorCode.TOKEN_REFUSED: "the enrollment credential is unknown, used, expired or revoked: the message says which",
    ErrorCode.KEY_IN_USE: "the public key belongs to another agent",
    ErrorCode.OTP_REQUIRED: "the password is right; send the code of the authenticator, or a recovery code, as `otp`",
    ErrorCode.TOO_LARGE: "the request is larger than its limit",
    ErrorCode.BUSY: "the hub has no room now; ask again after `retryAfterSec`",
}

OPERATION_SUMMARIES: Final[Mapping[str, str]] = {
    "agents:list": "A page of the fleet, filtered and sorted by the hub, with counts per status.",
    "agents:get": "One machine with its configuration and thresholds.",
    "agents:update": "Change a machine's name, tags, site, configuration or thresholds.",
    "agents:delete": "Remove a machine: its identity is revoked and its session closed.",
    "agents:revoke": "Make a machine's certificates worthless and close its session; its history stays.",
    "agents:quarantine": "Keep a machine out until it is released.",
    "agents:release": "Let a machine in quarantine in again.",
    "metrics:query": "Values of some metrics of some machines over a span of time, in buckets.",
    "metrics:newest": "The newest sample of each kind of one machine: disks, interfaces, processes, plugins.",
    "reports:list": "What machines reported of themselves: lost connections, gaps, failing collectors; newest first.",
    "inventory:get": "Hardware, operating system, packages and services of one machine.",
    "hub:health": "The newest of the hub's own figures: loop lag, collections, queues, commits, what was dropped.",
    "hub:metrics": "History of the hub's own figures.",
    "alerts:list": "A page of alerts, newest first.",
    "alerts:resolve": "Close an open alert by hand.",
    "commands:create": "Order a machine to run a command.",
    "commands:list": "A page of commands, newest first.",
    "commands:get": "One command.",
    "commands:cancel": "Cancel a command that has not ended.",
    "commands:output": "Stored output of a command from a byte offset on.",
    "policies:list": "The organisation's policies, by name.",
    "policies:get": "One policy.",
    "policies:create": "Make a policy; it holds for jobs that are asked for from now on.",
    "policies:update": "Replace what a policy says; jobs that are signed already stay as they are.",
    "policies:delete": "Remove a policy with the results of its checks.",
    "compliance:list": "What the checks of policies found on machines, with counts per state.",
    "compliance:summary": "How many machines pass, fail or are unknown, in all and by policy.",
    "tokens:create": "Make an enrollment token; its secret is shown this once.",
    "tokens:list": "A page of enrollment tokens, newest first.",
    "tokens:revoke": "Make an enrollment token useless.",
    "organisation-keys:create": "Make a key for `POST /api/agents/register`; its secret is shown this once.",
    "organisation-keys:list": "A page of organisation keys, newest first.",
    "organisation-keys:revoke": "Make an organisation key useless.",
    "approvals:list": "Machines that wait to be let in, oldest first.",
    "approvals:approve": "Let a waiting machine in; it fetches its certificate by itself.",
    "approvals:reject": "Turn a waiting machine away.",
    "certificates:list": "Certificates of machines, soonest to end first.",
    "authorities:list": "The hub's certificate authorities and signing keys, and what a person should do about them.",
    "account:get": "Who asks, what they may do, their second factor and sign-ins.",
    "account:set-password": "Change one's own password; other sign-ins end.",
    "account:begin-totp": "A new secret for an authenticator app; it counts once a code of it was confirmed.",
    "account:confirm-totp": "Turn the second factor on; answers recovery codes, shown this once.",
    "account:remove-totp": "Turn one's own second factor off.",
    "account:new-recovery-codes": "Replace the recovery codes; shown this once.",
    "account:sign-out-everywhere": "End every sign-in of whoever asks.",
    "users:list": "People of the organisation.",
    "users:create": "Add a person with a first password and a role no higher than one's own.",
    "users:set-role": "Change a person's role; their sockets close and they sign in again.",
    "users:set-password": "Give a person a new password; their sign-ins end.",
    "users:remove-totp": "Turn off the second factor of a person who lost it; their sign-ins end.",
    "users:lock": "Keep a person out; their sockets close at once.",
    "users:unlock": "Let a locked person in again.",
    "users:remove": "Take a person out of the organisation.",
    "roles:list": "The roles, what each may do, and which of them whoever asks may give.",
    "api-keys:create": "Make a key for a script; its secret is shown this once.",
    "api-keys:list": "A page of API keys, newest first.",
    "api-keys:revoke": "Make an API key useless; sockets that use it close.",
    "organisations:list": "The organisations of this hub.",
    "organisations:create": "Add an organisation.",
    "organisations:update": "Change an organisation's name or quotas.",
    "audit:search": "What was done, newest first.",
    "feed:subscribe": "Switch this socket from single `agent:metrics` events to batches for the machines in view.",
    "feed:ack": "Confirm a batch of the feed.",
    "auth:refresh": "Continue this socket with a new access token of the same person.",
}


class Listener(StrEnum):
    PEOPLE = "people"
    AGENTS = "agents"


class Credential(StrEnum):
    ORGANISATION_KEY = "organisationKey"
    REFRESH_COOKIE = "refreshCookie"


class Route(NamedTuple):
    """One REST route. `answers`: status → body, None for one of no fixed form. `errors`: statuses of an ErrorReply."""

    listener: Listener
    method: Literal["get", "post"]
    path: str
    summary: str
    answers: Mapping[int, type[Struct] | None]
    request: type[Struct] | None = None
    errors: tuple[int, ...] = ()
    credential: Credential | None = None


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        Listener.AGENTS,
        "get",
        "/api/v1/agent/ca",
        "The certificates to check against a token's pin before the token is sent.",
        {200: CaReply},
        errors=(429, 503),
    ),
    Route(
        Listener.AGENTS,
        "post",
        "/api/v1/agent/enroll",
        "Turn an enrollment token and a certificate request into an identity. Sent again with the same token and key "
        "within 10 minutes it answers the same certificate.",
        {200: EnrollReply, 202: EnrollPending},
        EnrollRequest,
        (400, 401, 403, 409, 413, 429, 503),
    ),
    Route(
        Listener.AGENTS,
        "post",
        "/api/agents/register",
        "Enroll with an organisation's key, sent as `X-API-Key: itsk_…`.",
        {201: RegisterReply},
        RegisterRequest,
        (400, 401, 403, 409, 413, 429, 503),
        Credential.ORGANISATION_KEY,
    ),
    Route(
        Listener.AGENTS,
        "post",
        "/api/v1/agent/recover",
        "Ask for a certificate in place of one that ran out, with a proof by its key. A person approves it.",
        {200: EnrollReply, 202: EnrollPending},
        RecoverRequest,
        (400, 401, 403, 409, 413, 429, 503),
    ),
    Route(
        Listener.PEOPLE,
        "post",
        "/api/v1/auth/sign-in",
        "Sign a person in: an access token in the body, a refresh token in a cookie.",
        {200: SignInReply},
        SignInRequest,
        (400, 401, 403, 413, 429, 503),
    ),
    Route(
        Listener.PEOPLE,
        "post",
        "/api/v1/auth/refresh",
        "A new access token for the refresh cookie, which is replaced too.",
        {200: SignInReply},
        errors=(401, 403, 429, 503),
        credential=Credential.REFRESH_COOKIE,
    ),
    Route(
        Listener.PEOPLE,
        "post",
        "/api/v1/auth/sign-out",
        "End the sign-in of the refresh cookie.",
        {204: None},
        errors=(403, 503),
        credential=Credential.REFRESH_COOKIE,
    ),
    Route(Listener.PEOPLE, "get", "/healthz", "The process answers.", {200: None}),
    Route(
        Listener.PEOPLE,
        "get",
        "/readyz",
        "The hub serves: the store answers and no stop is under way.",
        {200: None, 503: None},
    ),
    Route(
        Listener.PEOPLE,
        "get",
        "/metrics",
        "The hub's own metrics as Prometheus text: for programs of its machine, or with the settings' bearer token.",
        {200: None},
        errors=(403,),
    ),
    Route(
        Listener.PEOPLE,
        "get",
        "/metrics/fleet",
        "The newest values of all machines as Prometheus text, where the settings turn it on.",
        {200: None},
        errors=(403, 404),
    ),
)

REST_REQUESTS: Final[tuple[type[Struct], ...]] = tuple(route.request for route in ROUTES if route.request is not None)
REST_ANSWERS: Final[tuple[type[Struct], ...]] = (
    *dict.fromkeys(body for route in ROUTES for body in route.answers.values() if body is not None),
    ErrorReply,
)
