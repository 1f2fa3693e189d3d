"""Certificates the hub has issued to agents, its own authorities and keys, the trust documents, suspected clones."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from hub_server.storage import naming  # noqa: F401  before any table
from hub_server.storage.columns import UtcDateTime


class CertificateRow(SQLModel, table=True):
    __tablename__ = "certificates"

    serial: str = Field(primary_key=True, max_length=64)
    organisation_id: str = Field(index=True, max_length=64)
    agent_id: str = Field(max_length=64, index=True)
    """No foreign key: a deleted agent's certificates stay, revoked, until they have expired."""
    public_key_sha256: bytes = Field(index=True)
    pem: str
    issuer: str = Field(default="", max_length=64)
    """The id of the authority that issued it."""
    replaces: str | None = Field(default=None, max_length=64)
    """The serial of the certificate with which this one was asked for."""
    not_before: datetime = Field(sa_type=UtcDateTime)
    not_after: datetime = Field(sa_type=UtcDateTime)
    first_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    superseded_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class AuthorityRow(SQLModel, table=True):
    """A key of the hub. The private half is sealed by the secrets key, which is no part of the database."""

    __tablename__ = "authorities"

    id: str = Field(primary_key=True, max_length=64)
    use: str = Field(max_length=16, index=True)
    certificate_pem: str | None = None
    """Of the root and the issuing CAs."""
    public_key: str
    """SubjectPublicKeyInfo in PEM."""
    sealed_key: bytes | None = None
    """PKCS 8 in DER, sealed. None when the key was taken offline, or is no longer needed."""
    not_before: datetime = Field(sa_type=UtcDateTime)
    not_after: datetime = Field(sa_type=UtcDateTime)
    active_from: datetime = Field(sa_type=UtcDateTime)
    retired_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TrustDocumentRow(SQLModel, table=True):
    """Root-signed trust documents; the one with the highest version holds."""

    __tablename__ = "trust_documents"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    document: str
    signatures: list[dict[str, Any]] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)


class CloneSuspicionRow(SQLModel, table=True):
    """Two machines spoke as one agent."""

    __tablename__ = "clone_suspicions"

    position: int | None = Field(default=None, primary_key=True)
    organisation_id: str = Field(index=True, max_length=64)
    agent_id: str = Field(foreign_key="agents.id", ondelete="CASCADE", index=True)
    at: datetime = Field(sa_type=UtcDateTime)
    older_address: str = Field(default="", max_length=64)
    newer_address: str = Field(default="", max_length=64)
