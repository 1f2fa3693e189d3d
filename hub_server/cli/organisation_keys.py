"""`jtnt-hub key`: what lets programs register machines by seed 004's route."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Organisation, Place, with_hub
from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.cli.tokens import ACTOR, seconds_of
from hub_server.terminal.columns import print_columns
from protocol.joining import (
    OrganisationKeysCreate,
    OrganisationKeysCreateReply,
    OrganisationKeysList,
    OrganisationKeysListReply,
    OrganisationKeysRevoke,
    OrganisationKeysRevokeReply,
    OrganisationKeyView,
)

app = App(
    name="key",
    help="Organisation keys, with which programs register machines (POST /api/agents/register).",
    help_epilogue=examples("jtnt-hub key create provisioning --ttl 30d", "jtnt-hub key list"),
)


@app.command(
    help_epilogue=examples(
        "jtnt-hub key create provisioning",
        "jtnt-hub key create image-builder --site berlin --tag web --ttl 30d",
        "jtnt-hub key create provisioning --organisation berlin",
    )
)
def create(
    name: str,
    *,
    place: Place | None = None,
    organisation: Organisation = None,
    site: Annotated[str, Parameter(help="Site of the machines that register with it.")] = "",
    tag: Annotated[tuple[str, ...], Parameter(negative="", help="A tag of these machines; may be repeated.")] = (),
    ttl: Annotated[str, Parameter(help="How long it is good: 12h, 30d, at most 366d.")] = "90d",
    json: AsJson = False,
) -> None:
    """Make a key and print it. It is shown this once, and lets in any number of machines until it ends."""
    request = _checked({"name": name, "site": site, "tags": list(tag), "ttlSec": seconds_of(ttl)})

    async def made(hub: LocalHub) -> OrganisationKeysCreateReply:
        return await hub.keys.make(await hub.organisation_id(organisation), ACTOR, request)

    reply = with_hub(place or Place(), made)
    if json:
        print(msgspec.json.encode(reply).decode())
        return
    print(f"Machines may register until {reply.key.expires_at:%Y-%m-%d %H:%M} UTC with this header:")
    print(f"  X-API-Key: {reply.key_text}")


@app.command(name="list", help_epilogue=examples("jtnt-hub key list --json"))
def list_keys(
    *, place: Place | None = None, organisation: Organisation = None, limit: int = 100, json: AsJson = False
) -> None:
    """Show the keys, newest first, without their secrets."""

    async def listed(hub: LocalHub) -> OrganisationKeysListReply:
        return await hub.keys.page(await hub.organisation_id(organisation), OrganisationKeysList(limit=limit))

    reply = with_hub(place or Place(), listed)
    if json:
        print(msgspec.json.encode(reply).decode())
        return
    if not reply.keys:
        print("There are no organisation keys. Make one with `jtnt-hub key create NAME`.")
        return
    now = datetime.now(UTC)
    print_columns([("ID", "NAME", "STATE", "USED", "LAST USED", "EXPIRES"), *(_line(key, now) for key in reply.keys)])


@app.command(help_epilogue=examples("jtnt-hub key revoke 4kT0xQ2abcD"))
def revoke(key_id: str, *, place: Place | None = None, organisation: Organisation = None, json: AsJson = False) -> None:
    """Make a key useless; machines that registered with it stay."""

    async def revoked(hub: LocalHub) -> OrganisationKeysRevokeReply:
        return await hub.keys.revoke(
            await hub.organisation_id(organisation), ACTOR, OrganisationKeysRevoke(key_id=key_id)
        )

    reply = with_hub(place or Place(), revoked)
    print(msgspec.json.encode(reply).decode() if json else f"Key {reply.key.id} is revoked.")


def _checked(fields: dict[str, object]) -> OrganisationKeysCreate:
    try:
        return msgspec.convert(fields, OrganisationKeysCreate)
    except msgspec.ValidationError as error:
        raise CommandFailed(f"the key cannot be made: {error}", Exit.USAGE) from error


def _line(key: OrganisationKeyView, now: datetime) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        _state_of(key, now),
        str(key.used),
        f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "-",
        f"{key.expires_at:%Y-%m-%d %H:%M}",
    )


def _state_of(key: OrganisationKeyView, now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if now >= key.expires_at else "open"
