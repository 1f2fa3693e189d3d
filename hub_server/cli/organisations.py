"""`jtnt-hub org`: organisations and how much each may have."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter

from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Place, with_hub
from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.terminal.columns import print_columns
from protocol.people import (
    OrganisationsCreate,
    OrganisationsList,
    OrganisationsListReply,
    OrganisationsUpdate,
    OrganisationView,
    Quotas,
)

ACTOR: Final = "hub-cli"
NO_BOUND: Final = "none"

app = App(
    name="org",
    help="Organisations: each has its own machines, people and commands, and sees nothing of another's.",
    help_epilogue=examples("jtnt-hub org create 'Acme Ltd' --agents 500", "jtnt-hub org list"),
)

Bound = Annotated[str | None, Parameter(help="A number, or `none`.")]


@app.command(
    help_epilogue=examples(
        "jtnt-hub org create 'Acme Ltd'", "jtnt-hub org create 'Acme Ltd' --agents 500 --users 20 --open-commands 1000"
    )
)
def create(
    name: str,
    *,
    place: Place | None = None,
    agents: Bound = None,
    users: Bound = None,
    open_commands: Bound = None,
    json: AsJson = False,
) -> None:
    """Make an organisation. Without bounds it may have as much as the hub can carry."""
    quotas = _changed(Quotas(), agents=agents, users=users, open_commands=open_commands)
    request = _checked({"name": name, "quotas": msgspec.to_builtins(quotas)})

    async def made(hub: LocalHub) -> OrganisationView:
        return await hub.organisations.add(ACTOR, None, request)

    made_organisation = with_hub(place or Place(), made)
    if json:
        print(msgspec.json.encode(made_organisation).decode())
        return
    print(f"Organisation {made_organisation.name} is there: {made_organisation.id}")


@app.command(name="list", help_epilogue=examples("jtnt-hub org list", "jtnt-hub org list --json"))
def list_organisations(*, place: Place | None = None, limit: int = 100, offset: int = 0, json: AsJson = False) -> None:
    """Show the organisations, oldest first, with what each has and may have."""

    async def listed(hub: LocalHub) -> OrganisationsListReply:
        await hub.organisation_id()
        return await hub.organisations.page(OrganisationsList(limit=limit, offset=offset))

    reply = with_hub(place or Place(), listed)
    if json:
        print(msgspec.json.encode(reply).decode())
        return
    titles = ("ID", "NAME", "AGENTS", "USERS", "MAY HAVE OPEN COMMANDS")
    print_columns([titles, *(_line(organisation) for organisation in reply.organisations)])


@app.command(
    help_epilogue=examples(
        "jtnt-hub org quota 'Acme Ltd' --agents 800", "jtnt-hub org quota 'Acme Ltd' --open-commands none"
    )
)
def quota(
    name: str,
    *,
    place: Place | None = None,
    agents: Bound = None,
    users: Bound = None,
    open_commands: Bound = None,
    json: AsJson = False,
) -> None:
    """Change how much an organisation, by name or id, may have. What is there already stays."""

    async def changed(hub: LocalHub) -> OrganisationView:
        organisation = await hub.organisations.named(name)
        quotas = _changed(organisation.quotas, agents=agents, users=users, open_commands=open_commands)
        if quotas == organisation.quotas:
            return organisation
        request = OrganisationsUpdate(organisation_id=organisation.id, quotas=quotas)
        return await hub.organisations.change(ACTOR, None, request)

    organisation = with_hub(place or Place(), changed)
    if json:
        print(msgspec.json.encode(organisation).decode())
        return
    bounds = organisation.quotas
    print(
        f"{organisation.name} may have: agents {_bound(bounds.agents)}, users {_bound(bounds.users)}, "
        f"open commands {_bound(bounds.open_commands)}."
    )


def _changed(quotas: Quotas, **texts: str | None) -> Quotas:
    """Return `quotas` with each given text in its place. Raises CommandFailed."""
    fields = msgspec.structs.asdict(quotas)
    for name, text in texts.items():
        if text is not None and text != NO_BOUND and not text.isdecimal():
            raise CommandFailed(f"{text!r} is no bound; give a number, or `{NO_BOUND}`", Exit.USAGE)
        if text is not None:
            fields[name] = None if text == NO_BOUND else int(text)
    try:
        return msgspec.convert(msgspec.to_builtins(Quotas(**fields)), Quotas)
    except msgspec.ValidationError as error:
        raise CommandFailed(f"this bound cannot be: {error}", Exit.USAGE) from error


def _checked(fields: dict[str, object]) -> OrganisationsCreate:
    try:
        return msgspec.convert(fields, OrganisationsCreate)
    except msgspec.ValidationError as error:
        raise CommandFailed(f"the organisation cannot be made: {error}", Exit.USAGE) from error


def _line(organisation: OrganisationView) -> tuple[str, ...]:
    bounds = organisation.quotas
    return (
        organisation.id,
        organisation.name,
        f"{organisation.agents} of {_bound(bounds.agents)}",
        f"{organisation.users} of {_bound(bounds.users)}",
        _bound(bounds.open_commands),
    )


def _bound(most: int | None) -> str:
    return "no bound" if most is None else str(most)
