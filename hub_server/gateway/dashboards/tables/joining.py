"""Operations on what lets machines join: tokens, organisation keys, and the queue of those who wait."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.enrollment.service import EnrollmentService
from hub_server.gateway.dashboards.operations import Entry, Table


def joining_operations(enrollment: EnrollmentService) -> Table:
    return {
        "tokens:create": Entry(
            Permission.TOKENS_WRITE, lambda caller, request: enrollment.create_token(caller.principal, request)
        ),
        "tokens:list": Entry(
            Permission.TOKENS_READ, lambda caller, request: enrollment.list_tokens(caller.principal, request)
        ),
        "tokens:revoke": Entry(
            Permission.TOKENS_WRITE, lambda caller, request: enrollment.revoke_token(caller.principal, request)
        ),
        "organisation-keys:create": Entry(
            Permission.TOKENS_WRITE, lambda caller, request: enrollment.create_key(caller.principal, request)
        ),
        "organisation-keys:list": Entry(
            Permission.TOKENS_READ, lambda caller, request: enrollment.list_keys(caller.principal, request)
        ),
        "organisation-keys:revoke": Entry(
            Permission.TOKENS_WRITE, lambda caller, request: enrollment.revoke_key(caller.principal, request)
        ),
        "approvals:list": Entry(
            Permission.TOKENS_READ, lambda caller, request: enrollment.list_approvals(caller.principal, request)
        ),
        "approvals:approve": Entry(
            Permission.APPROVALS_DECIDE, lambda caller, request: enrollment.approve(caller.principal, request)
        ),
        "approvals:reject": Entry(
            Permission.APPROVALS_DECIDE, lambda caller, request: enrollment.reject(caller.principal, request)
        ),
    }
