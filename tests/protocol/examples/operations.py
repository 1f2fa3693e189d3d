from collections.abc import Mapping
from typing import Final

import msgspec

from protocol.codes import ErrorCode
from protocol.commands import (
    CommandReply,
    CommandsCancel,
    CommandsCreate,
    CommandsGet,
    CommandsList,
    CommandsListReply,
    CommandsOutput,
    CommandsOutputReply,
    CommandView,
)
from protocol.desired import AgentConfig
from protocol.enrollment import ErrorBody
from protocol.enumerations import (
    Action,
    AgentTrust,
    AlertSeverity,
    AlertState,
    CommandReason,
    CommandStatus,
    OutputStream,
    TextEncoding,
)
from protocol.frames import Signature
from protocol.operations import (
    AgentConfigInput,
    AgentsDelete,
    AgentsGet,
    AgentsGetReply,
    AgentsList,
    AgentsListReply,
    AgentsQuarantine,
    AgentsRelease,
    AgentsRevoke,
    AgentsUpdate,
    AlertsList,
    AlertsListReply,
    AlertsResolve,
    AlertsResolveReply,
    AlertView,
    AuthRefresh,
    AuthRefreshReply,
    FeedAck,
    FeedSubscribe,
    FeedSubscribeReply,
    Thresholds,
)
from protocol.requests import Refusal, Reply, Request
from tests.protocol.examples import joining, oversight, people, policies, telemetry
from tests.protocol.examples.events import AGENT_ID, AT, COUNTS, SUMMARY
from tests.protocol.examples.frames import COMMAND_ID
from tests.protocol.examples.telemetry import FILTER

CONFIG: Final = AgentConfig(
    sample_interval_sec=5,
    heartbeat_interval_sec=20,
    metrics_enabled=False,
    security_checks_enabled=False,
    inventory_enabled=False,
    processes_enabled=True,
    logins_enabled=True,
)
CONFIG_INPUT: Final = AgentConfigInput(**msgspec.structs.asdict(CONFIG))
THRESHOLDS: Final = Thresholds(
    cpu_warning=70,
    cpu_critical=95.5,
    memory_warning=75,
    memory_critical=92,
    disk_warning=60,
    disk_critical=85,
    updates_warning=25,
)
ALERT: Final = AlertView(
    id="01K9TZV9AA",
    agent_id=AGENT_ID,
    hostname="web-01",
    type="cpu_high",
    severity=AlertSeverity.CRITICAL,
    message="CPU 97 % (above 90 %)",
    state=AlertState.RESOLVED,
    opened_at=AT,
    resolved_at=AT,
    resolved_by="ada",
)
COMMAND: Final = CommandView(
    id=COMMAND_ID,
    agent_id=AGENT_ID,
    purpose="the disk is full",
    command_type="exec",
    command_data={"argv": ["uname", "-a"]},
    status=CommandStatus.FAILED,
    reason=CommandReason.EXIT_CODE,
    exit_code=2,
    result="exit code 2",
    created_at=AT,
    created_by="ada",
    sent_at=AT,
    started_at=AT,
    finished_at=AT,
    expires_at=AT,
    output_bytes={OutputStream.STDOUT: 5_000_000},
    truncated=True,
    kept_bytes={OutputStream.STDOUT: 4096},
    timeout_sec=60,
    cancel_requested=True,
    shortened=True,
)
REQUESTS: Final[Mapping[str, Request]] = {
    "agents:list": AgentsList(filter=FILTER, sort="-cpu", limit=50, offset=100),
    "agents:get": AgentsGet(agent_id=AGENT_ID),
    "agents:update": AgentsUpdate(
        agent_id=AGENT_ID, name="Web 1", tags=["web"], site="Oslo", config=CONFIG_INPUT, thresholds=THRESHOLDS
    ),
    "agents:delete": AgentsDelete(agent_id=AGENT_ID),
    "agents:revoke": AgentsRevoke(agent_id=AGENT_ID, reason="stolen"),
    "agents:quarantine": AgentsQuarantine(agent_id=AGENT_ID, reason="behaves oddly"),
    "agents:release": AgentsRelease(agent_id=AGENT_ID),
    **telemetry.REQUESTS,
    "alerts:list": AlertsList(agent_id=AGENT_ID, state=AlertState.OPEN, limit=20, offset=40),
    "alerts:resolve": AlertsResolve(alert_id="01K9TZV9AA"),
    "commands:create": CommandsCreate(
        agent_id=AGENT_ID,
        command_data={"verb": "restart", "name": "nginx"},
        command_type=Action.SERVICE,
        timeout_sec=30.5,
        expires_in_sec=3600,
        payload="eyJraW5kIjoianRudC5qb2IudjEifQ==",
        signature=Signature(key_id="qfrggzdfmztwq2lk", signature="c2ln"),
        idempotency_key="k-1",
        reason="the new certificate",
    ),
    "commands:list": CommandsList(
        agent_id=AGENT_ID,
        status=CommandStatus.FAILED,
        ended=True,
        after="01K9TZV9BB",
        created_by="user:ada",
        from_ms=1_763_800_000_000,
        limit=20,
        offset=40,
    ),
    "commands:get": CommandsGet(command_id=COMMAND_ID),
    "commands:cancel": CommandsCancel(command_id=COMMAND_ID),
    "commands:output": CommandsOutput(command_id=COMMAND_ID, stream=OutputStream.STDOUT, offset=4096),
    **joining.REQUESTS,
    **oversight.REQUESTS,
    **people.REQUESTS,
    **policies.REQUESTS,
    "feed:subscribe": FeedSubscribe(
        agent_ids=[AGENT_ID],
        filter=FILTER,
        sort="-cpu",
        offset=50,
        limit=25,
        metrics=["cpu_percent"],
        metric_types=["system"],
    ),
    "feed:ack": FeedAck(version=18),
    "auth:refresh": AuthRefresh(token="eyJhbGciOiJFZERTQSJ9.e30.c2ln"),
}
_COMMAND_REPLY: Final = CommandReply(command=COMMAND)
_AGENT_REPLY: Final = AgentsGetReply(
    agent=SUMMARY,
    config=CONFIG,
    config_applied=False,
    thresholds=THRESHOLDS,
    trust=AgentTrust.QUARANTINED,
    trust_reason="behaves oddly",
    certificate_expires_at=AT,
)
REPLIES: Final[Mapping[str, Reply]] = {
    "agents:list": AgentsListReply(agents=[SUMMARY], total=103, limit=50, offset=100, counts=COUNTS),
    "agents:get": _AGENT_REPLY,
    "agents:update": _AGENT_REPLY,
    "agents:delete": Reply(),
    "agents:revoke": _AGENT_REPLY,
    "agents:quarantine": _AGENT_REPLY,
    "agents:release": _AGENT_REPLY,
    **telemetry.REPLIES,
    "alerts:list": AlertsListReply(alerts=[ALERT], total=41, limit=20, offset=40),
    "alerts:resolve": AlertsResolveReply(alert=ALERT),
    "commands:create": _COMMAND_REPLY,
    "commands:list": CommandsListReply(commands=[COMMAND], total=41, limit=20, offset=40),
    "commands:get": _COMMAND_REPLY,
    "commands:cancel": _COMMAND_REPLY,
    "commands:output": CommandsOutputReply(
        command_id=COMMAND_ID,
        stream=OutputStream.STDOUT,
        offset=4096,
        data="/w==",
        encoding=TextEncoding.BASE64,
        next_offset=4097,
        complete=True,
    ),
    **joining.REPLIES,
    **oversight.REPLIES,
    **people.REPLIES,
    **policies.REPLIES,
    "feed:subscribe": FeedSubscribeReply(version=18, agent_ids=[AGENT_ID], confirm_every=5),
    "feed:ack": Reply(),
    "auth:refresh": AuthRefreshReply(expires_in_sec=600),
}
REFUSAL: Final = Refusal(
    error=ErrorBody(code=ErrorCode.INVALID_REQUEST, message="Expected `int` >= 1", path="$.limit", retry_after_sec=3)
)
