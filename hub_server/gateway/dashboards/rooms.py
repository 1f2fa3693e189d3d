"""Who hears what: the names of rooms."""

from __future__ import annotations

from hub_server.access.model import Permission, Principal, permits


def fleet_room(organisation_id: str) -> str:
    return f"fleet:{organisation_id}"


def commands_room(organisation_id: str) -> str:
    return f"commands:{organisation_id}"


def unsubscribed_room(organisation_id: str) -> str:
    """Clients that never asked for a feed: they get single `agent:metrics` events, as seed 004 shows."""
    return f"single:{organisation_id}"


def rooms_of(principal: Principal) -> list[str]:
    """Return the rooms a client joins at connect."""
    rooms = []
    if permits(principal, Permission.FLEET_READ):
        rooms += [fleet_room(principal.organisation_id), unsubscribed_room(principal.organisation_id)]
    if permits(principal, Permission.COMMANDS_READ):
        rooms.append(commands_room(principal.organisation_id))
    return rooms
