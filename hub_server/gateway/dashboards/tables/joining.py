"""Operations on what lets machines join."""

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
    }
