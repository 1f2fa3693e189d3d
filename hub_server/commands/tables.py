"""Commands, their scripts and their output (seed 004, "AgentCommand")."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime

_IS_OPEN: Final = text("finished_at is null")
_LONG_AGO: Final = text("'1970-01-01 00:00:00.000000'")


class CommandRow(SQLModel, table=True):
    """`payload` holds the exact signed bytes; `version` rises with every change, and `changed_at` is when a hub stored
    it, by that hub's clock.

    `command_data` has a script's hash in place of its text. `output_bytes`: what the process wrote, by stream.
    """

    __tablename__ = "agent_commands"
    __table_args__ = (
        UniqueConstraint("organisation_id", "idempotency_key", name="uq_agent_commands_idempotency"),
        Index("ix_agent_commands_newest", "organisation_id", "created_at"),
        Index("ix_agent_commands_script", "organisation_id", "script_sha256"),
        Index("ix_agent_commands_changed", "changed_at", "id"),
        Index("ix_agent_commands_open", "organisation_id", "id", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
    )

    id: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(index=True, max_length=64)
    agent_id: str = Field(foreign_key="agents.id", ondelete="CASCADE", index=True)
    command_type: str = Field(max_length=64)
    command_data: dict[str, Any] = Field(sa_type=JSON)
    payload: bytes
    signatures: list[dict[str, str]] = Field(sa_type=JSON)
    status: str = Field(max_length=16)
    reason: str | None = Field(default=None, max_length=64)
    exit_code: int | None = Field(default=None, sa_type=BigInteger)
    result: str = ""
    truncated: bool = False
    idempotency_key: str | None = Field(default=None, max_length=128)
    created_at: datetime = Field(sa_type=UtcDateTime)
    created_by: str = Field(max_length=160)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    cancel_requested: bool = False
    script_sha256: str | None = Field(default=None, max_length=64)
    timeout_sec: float | None = None
    output_bytes: dict[str, int] = Field(
        default_factory=dict, sa_type=JSON, sa_column_kwargs={"server_default": text("'{}'")}
    )
    version: int = 1
    changed_at: datetime = Field(sa_type=UtcDateTime, sa_column_kwargs={"server_default": _LONG_AGO})
    purpose: str = Field(default="", sa_column_kwargs={"server_default": text("''")})


class ScriptRow(SQLModel, table=True):
    """A script as it is hashed, once an organisation. `used_at`: when a command with it was made last."""

    __tablename__ = "scripts"

    organisation_id: str = Field(primary_key=True, max_length=64)
    sha256: str = Field(primary_key=True, max_length=64)
    body: bytes
    used_at: datetime = Field(sa_type=UtcDateTime, index=True)


class CommandOutputRow(SQLModel, table=True):
    """Bytes of one output stream from `start_offset` on; chunks are contiguous and never overlap."""

    __tablename__ = "command_output"

    command_id: str = Field(primary_key=True, foreign_key="agent_commands.id", ondelete="CASCADE")
    stream: str = Field(primary_key=True, max_length=8)
    start_offset: int = Field(primary_key=True, sa_type=BigInteger)
    organisation_id: str = Field(max_length=64)
    data: bytes
