"""Operations on policies and on what their checks found."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.gateway.dashboards.operations import Entry, Table
from hub_server.policies.compliance import ComplianceService
from hub_server.policies.service import PolicyService


def policy_operations(policies: PolicyService, compliance: ComplianceService) -> Table:
    read, write = Permission.POLICIES_READ, Permission.POLICIES_WRITE
    return {
        "policies:list": Entry(read, lambda caller, request: policies.list(caller.principal, request)),
        "policies:get": Entry(read, lambda caller, request: policies.get(caller.principal, request)),
        "policies:create": Entry(write, lambda caller, request: policies.create(caller.principal, request)),
        "policies:update": Entry(write, lambda caller, request: policies.update(caller.principal, request)),
        "policies:delete": Entry(write, lambda caller, request: policies.delete(caller.principal, request)),
        "compliance:list": Entry(read, lambda caller, request: compliance.list(caller.principal, request)),
        "compliance:summary": Entry(read, lambda caller, request: compliance.summary(caller.principal, request)),
    }
