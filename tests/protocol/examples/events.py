from datetime import UTC, datetime
from typing import Final

from protocol.enumerations import (
    AgentStatus,
    AgentTrust,
    AlertSeverity,
    AlertState,
    CommandReason,
    CommandStatus,
    OutputStream,
    TextEncoding,
)
from protocol.events import (
    AgentAlert,
    AgentCommandOutput,
    AgentCommandResult,
    AgentCommandStatus,
    AgentConnected,
    AgentDisconnected,
    AgentMetrics,
    AgentsMetrics,
    AgentsStatus,
    AgentSummary,
    DashboardEvent,
    FeedSample,
    FleetCounts,
    RelatedCounts,
)
from tests.protocol.examples.frames import COMMAND_ID, NOW_MS

AT: Final = datetime(2025, 11, 22, 8, 26, 40, 120_000, tzinfo=UTC)
AGENT_ID: Final = "01K9TZTWY2"
COUNTS: Final = FleetCounts(active=97, offline=2, error=1, maintenance=3, open_alerts=4, pending_commands=5)
SUMMARY: Final = AgentSummary(
    id=AGENT_ID,
    hostname="web-01",
    name="Web 1",
    status=AgentStatus.OFFLINE,
    status_reason="shutdown",
    os_type="linux",
    os_version="Debian 12",
    arch="x86_64",
    agent_version="0.1.0",
    ip_addresses=["192.0.2.10"],
    site="Oslo",
    tags=["web"],
    last_seen=AT,
    enrolled_at=AT,
    metrics={"cpu_percent": 12.5, "disk_mount": "/"},
    sampled_at_ms=NOW_MS,
    trust=AgentTrust.QUARANTINED,
    status_since=AT,
    clock_offset_ms=-2500,
    counts=RelatedCounts(metrics=1200, alerts=1, commands=2),
)

EVENTS: Final[tuple[DashboardEvent, ...]] = (
    AgentsStatus(agents=[SUMMARY], total=103, counts=COUNTS, version=17, delta=True, removed=["01K9TZTWXX"]),
    AgentConnected(agent_id=AGENT_ID, hostname="web-01", at=AT, reason="returned"),
    AgentDisconnected(agent_id=AGENT_ID, hostname="web-01", at=AT, reason="shutdown"),
    AgentMetrics(agent_id=AGENT_ID, metric_type="system", metric_data={"cpu_percent": 12.5}, timestamp=NOW_MS),
    AgentsMetrics(
        version=18,
        samples=[
            FeedSample(agent_id=AGENT_ID, metric_type="system", metric_data={"cpu_percent": 12.5}, timestamp=NOW_MS)
        ],
        snapshot=True,
        agent_ids=[AGENT_ID],
    ),
    AgentAlert(
        agent_id=AGENT_ID,
        alert_id="01K9TZV9AA",
        type="cpu_high",
        severity=AlertSeverity.CRITICAL,
        message="CPU 97 % (above 90 %)",
        state=AlertState.OPEN,
        at=AT,
    ),
    AgentCommandStatus(agent_id=AGENT_ID, command_id=COMMAND_ID, status=CommandStatus.EXECUTING, cancel_requested=True),
    AgentCommandOutput(
        agent_id=AGENT_ID,
        command_id=COMMAND_ID,
        stream=OutputStream.STDOUT,
        offset=0,
        data="Linux web-01\n",
        encoding=TextEncoding.UTF8,
    ),
    AgentCommandResult(
        agent_id=AGENT_ID,
        command_id=COMMAND_ID,
        status=CommandStatus.FAILED,
        exit_code=2,
        reason=CommandReason.EXIT_CODE,
        result="exit code 2",
        finished_at=AT,
    ),
)
