"""Operations on the hub's own keys."""

from __future__ import annotations

from hub_server.access.model import Permission
from hub_server.gateway.dashboards.operations import Caller, Entry, Table
from hub_server.pki.authority import Authority
from protocol.oversight import AuthoritiesList, AuthoritiesListReply


def authority_operations(authority: Authority) -> Table:
    async def listed(_caller: Caller, _request: AuthoritiesList) -> AuthoritiesListReply:
        return authority.overview()

    return {"authorities:list": Entry(Permission.CERTIFICATES_READ, listed)}
