"""Orders to sign."""

from __future__ import annotations

import time
import uuid
from typing import Any

import msgspec

from protocol.enumerations import Action
from protocol.envelope import JobEnvelope


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def order(**changes: Any) -> JobEnvelope:
    values: dict[str, Any] = {
        "job_id": str(uuid.uuid4()),
        "organisation_id": "org-1",
        "agent_id": "agent-1",
        "action": Action.EXEC,
        "argv": ["uptime", "--secret"],
        "environment": {"TOKEN": "hidden"},
        "issued_at": now_ms(),
        "expires_at": now_ms() + 60_000,
        "timeout_sec": 5.0,
        "requested_by": "user:ada",
    }
    return JobEnvelope(**values | changes)


def payload(**changes: Any) -> bytes:
    return msgspec.json.encode(order(**changes))
