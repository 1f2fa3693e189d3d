"""Operations on what was done."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.audit.service import AuditService
from hub_server.gateway.dashboards.operations import Entry, Table


def audit_operations(audit: AuditService) -> Table:
    return {
        "audit:search": Entry(Permission.AUDIT_READ, lambda caller, request: audit.search(caller.principal, request)),
    }
