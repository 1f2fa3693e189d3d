"""Certificates the hub has issued to agents."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class CertificateRow(SQLModel, table=True):
    __tablename__ = "certificates"

    serial: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(index=True, max_length=64)
    agent_id: str = Field(foreign_key="agents.id", ondelete="CASCADE", index=True)
    public_key_sha256: bytes = Field(index=True)
    pem: str
    not_before: datetime = Field(sa_type=UtcDateTime)
    not_after: datetime = Field(sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
