"""`jtnt-hub token`: what lets machines join."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter

from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Organisation, Place, with_hub
from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.terminal import durations
from hub_server.terminal.columns import print_columns
from protocol.joining import (
    TokensCreate,
    TokensCreateReply,
    TokensList,
    TokensListReply,
    TokensRevoke,
    TokensRevokeReply,
    TokenView,
)

ACTOR: Final = "hub-cli"

app = App(
    name="token",
    help="Enrollment tokens, with which machines join.",
    help_epilogue=examples("jtnt-hub token create --uses 20 --ttl 2h", "jtnt-hub token list"),
)


@app.command(
    help_epilogue=examples(
        "jtnt-hub token create",
        "jtnt-hub token create --site berlin --tag web --tag production --uses 20 --ttl 2h",
        "jtnt-hub token create --approval --uses 200 --ttl 7d",
        "jtnt-hub token create --organisation berlin",
    )
)
def create(
    *,
    place: Place | None = None,
    organisation: Organisation = None,
    site: Annotated[str, Parameter(help="Site of the machines that join with it.")] = "",
    tag: Annotated[tuple[str, ...], Parameter(negative="", help="A tag of these machines; may be repeated.")] = (),
    uses: Annotated[int, Parameter(help="How many machines may join.")] = 1,
    ttl: Annotated[str, Parameter(help="How long it is good: 90s, 30m, 12h, 7d.")] = "30m",
    approval: Annotated[
        bool, Parameter(negative="", help="Machines that join with it wait until a person lets each of them in.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Make a token and print the line that joins a machine. Its secret is shown this once."""
    request = _checked({"site": site, "tags": list(tag), "uses": uses, "ttlSec": seconds_of(ttl), "approval": approval})

    async def made(hub: LocalHub) -> TokensCreateReply:
        return await hub.tokens.mint(await hub.organisation_id(organisation), ACTOR, request)

    reply = with_hub(place or Place(), made)
    if json:
        print(msgspec.json.encode(reply).decode())
        return
    machines = "One machine" if uses == 1 else f"Up to {uses} machines"
    print(f"{machines} may join until {reply.token.expires_at:%Y-%m-%d %H:%M} UTC. On the machine:")
    print(f"  jtnt-agent enroll '{reply.join_string}'")
    if approval:
        print("Each then waits until a person lets it in on the dashboard.")


@app.command(name="list", help_epilogue=examples("jtnt-hub token list --json"))
def list_tokens(
    *, place: Place | None = None, organisation: Organisation = None, limit: int = 100, json: AsJson = False
) -> None:
    """Show the tokens, newest first, without their secrets."""

    async def listed(hub: LocalHub) -> TokensListReply:
        return await hub.tokens.page(await hub.organisation_id(organisation), TokensList(limit=limit))

    reply = with_hub(place or Place(), listed)
    if json:
        print(msgspec.json.encode(reply).decode())
        return
    if not reply.tokens:
        print("There are no tokens. Make one with `jtnt-hub token create`.")
        return
    now = datetime.now(UTC)
    print_columns([("ID", "STATE", "USED", "EXPIRES", "SITE", "TAGS"), *(_line(token, now) for token in reply.tokens)])


@app.command(help_epilogue=examples("jtnt-hub token revoke 4kT0xQ2abcD"))
def revoke(
    token_id: str, *, place: Place | None = None, organisation: Organisation = None, json: AsJson = False
) -> None:
    """Make a token useless; machines that joined with it stay."""

    async def revoked(hub: LocalHub) -> TokensRevokeReply:
        return await hub.tokens.revoke(await hub.organisation_id(organisation), ACTOR, TokensRevoke(token_id=token_id))

    reply = with_hub(place or Place(), revoked)
    print(msgspec.json.encode(reply).decode() if json else f"Token {reply.token.id} is revoked.")


def seconds_of(text: str) -> int:
    """Return the seconds of `30m`, `12h`, `7d` or a plain number. Raises CommandFailed."""
    try:
        return durations.seconds_of(text)
    except durations.BadDuration as error:
        raise CommandFailed(str(error), Exit.USAGE) from error


def _checked(fields: dict[str, object]) -> TokensCreate:
    try:
        return msgspec.convert(fields, TokensCreate)
    except msgspec.ValidationError as error:
        raise CommandFailed(f"the token cannot be made: {error}", Exit.USAGE) from error


def _line(token: TokenView, now: datetime) -> tuple[str, ...]:
    return (
        token.id,
        _state_of(token, now),
        f"{token.used}/{token.uses}",
        f"{token.expires_at:%Y-%m-%d %H:%M}",
        token.site or "-",
        ",".join(token.tags) or "-",
    )


def _state_of(token: TokenView, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    if token.used >= token.uses:
        return "used"
    if now >= token.expires_at:
        return "expired"
    return "approval" if token.approval else "open"
