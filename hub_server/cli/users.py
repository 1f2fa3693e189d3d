"""`jtnt-hub users`: people, made on the machine and never over the network."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated, Final

import orjson
from cyclopts import App, Parameter

from hub_server.access.service import normalised
from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Place, with_hub
from protocol.enumerations import Role

ACTOR: Final = "hub-cli"
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"

app = App(
    name="users", help="People who may sign in.", help_epilogue=examples("jtnt-hub users create ada --role org-admin")
)


@app.command(
    help_epilogue=examples(
        "jtnt-hub users create ada --role org-admin",
        "pass show jtnt/ada | jtnt-hub users create ada --role technician --password-stdin",
    )
)
def create(
    name: str,
    *,
    place: Place | None = None,
    role: Annotated[Role, Parameter(help="What the person may do.")],
    password_stdin: Annotated[
        bool, Parameter(negative="", help="Read the password from standard input instead of making one.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Make a user; without --password-stdin a password is made and shown this once."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else generated_password()
    username = normalised(name)

    async def made(hub: LocalHub) -> str:
        return await hub.access.create_user(
            organisation_id=await hub.organisation_id(), username=username, password=password, role=role, actor=ACTOR
        )

    user_id = with_hub(place or Place(), made)
    shown = {} if password_stdin else {"password": password}
    if json:
        print(orjson.dumps({"id": user_id, "username": username, "role": role.value, **shown}).decode())
        return
    print(f"User {username} may sign in as {role.value}.")
    if shown:
        print(f"Password, shown this once: {password}")


@app.command(
    name="password",
    help_epilogue=examples(
        "jtnt-hub users password ada", "pass show jtnt/ada | jtnt-hub users password ada --password-stdin"
    ),
)
def change_password(
    name: str,
    *,
    place: Place | None = None,
    password_stdin: Annotated[
        bool, Parameter(negative="", help="Read the password from standard input instead of making one.")
    ] = False,
) -> None:
    """Give a user a new password and end all their sign-ins; for one who lost it."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else generated_password()
    username = normalised(name)

    async def changed(hub: LocalHub) -> None:
        await hub.access.set_password(username, password, actor=ACTOR)

    with_hub(place or Place(), changed)
    print(f"User {username} has a new password and is signed out everywhere.")
    if not password_stdin:
        print(f"Password, shown this once: {password}")


def generated_password() -> str:
    """Return 100 bits of chance in letters that cannot be mistaken for others."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
