"""Every table of the hub, registered in one metadata for migrations."""

from hub_server.access import tables as access
from hub_server.alerts import tables as alerts
from hub_server.audit import tables as audit
from hub_server.commands import tables as commands
from hub_server.enrollment import tables as enrollment
from hub_server.fleet import tables as fleet
from hub_server.inventory import tables as inventory
from hub_server.pki import tables as pki
from hub_server.policies import tables as policies
from hub_server.presence import tables as presence
from hub_server.telemetry import tables as telemetry

__all__ = [
    "access",
    "alerts",
    "audit",
    "commands",
    "enrollment",
    "fleet",
    "inventory",
    "pki",
    "policies",
    "presence",
    "telemetry",
]
