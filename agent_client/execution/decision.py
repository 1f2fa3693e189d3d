"""What an order is decided to be: one that may run, or one that is turned down."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from protocol.envelope import JobEnvelope
from protocol.frames import Signature


class Rule(StrEnum):
    """Which check turned a job down; travels as `rule` of the result. From POLICY on: the machine's own policy."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    TRUST = "trust"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    EXPIRED_KEY = "expired_key"
    SIGNATURE = "signature"
    OPERATOR_SIGNATURE = "operator_signature"
    ORGANISATION = "organisation"
    AGENT = "agent"
    JOB_ID = "job_id"
    EXPIRED = "expired"
    JOURNAL_LOST = "journal_lost"
    ACTION = "action"
    RUN_AS = "run_as"
    SCRIPT = "script"
    TOO_MANY_JOBS = "too_many_jobs"
    JOURNAL = "journal"
    POLICY = "policy"
    """Its file cannot be believed or read, so nothing runs."""
    POLICY_ACTION = "policy_action"
    POLICY_PROGRAM = "policy_program"
    POLICY_SCRIPT = "policy_script"
    POLICY_ENVIRONMENT = "policy_environment"
    POLICY_RUN_AS = "policy_run_as"
    POLICY_WINDOW = "policy_window"
    POLICY_RATE = "policy_rate"


class Denied(Struct, frozen=True):
    rule: Rule
    message: str


class Permitted(Struct, frozen=True):
    """`payload`: the very bytes that `signatures` are of, and `envelope` was read from."""

    envelope: JobEnvelope
    payload: bytes
    signatures: list[Signature]
