"""`jtnt-hub users`: people, administered on the hub's machine, where alone the first administrator is made."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import msgspec
import orjson
from cyclopts import App, Parameter

from hub_server.access.model import OnMachine, normalised
from hub_server.access.strength import NAME_MIN_CHARS
from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Organisation, Place, with_hub
from hub_server.terminal.columns import print_columns
from protocol.enumerations import Role
from protocol.people import (
    UserReply,
    UsersCreate,
    UsersList,
    UsersListReply,
    UsersName,
    UsersSetPassword,
    UserView,
)

T = TypeVar("T")
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
FromStdin = Annotated[bool, Parameter(negative="", help="Read the password from standard input instead of making one.")]

app = App(
    name="users",
    help="People who may sign in.",
    help_epilogue=examples("jtnt-hub users create ada --role org-admin", "jtnt-hub users list"),
)


@app.command(
    help_epilogue=examples(
        "jtnt-hub users create ada --role org-admin",
        "pass show jtnt/ada | jtnt-hub users create ada --role technician --password-stdin --organisation berlin",
    )
)
def create(
    name: str,
    *,
    place: Place | None = None,
    role: Annotated[Role, Parameter(help="What the person may do.")],
    organisation: Organisation = None,
    password_stdin: FromStdin = False,
    json: AsJson = False,
) -> None:
    """Make a user; without --password-stdin a password is made and shown this once."""
    password = _read_password() if password_stdin else generated_password(name)

    async def made(hub: LocalHub, machine: OnMachine) -> UserReply:
        return await hub.users.create(machine, UsersCreate(username=name, password=password, role=role))

    user = _on_hub(place, organisation, made).user
    shown = {} if password_stdin else {"password": password}
    if json:
        print(orjson.dumps({"id": user.id, "username": user.username, "role": role.value, **shown}).decode())
        return
    print(f"User {user.username} may sign in as {role.value}.")
    if shown:
        print(f"Password, shown this once: {password}")


@app.command(
    name="list", help_epilogue=examples("jtnt-hub users list", "jtnt-hub users list --organisation berlin --json")
)
def list_users(
    *, place: Place | None = None, organisation: Organisation = None, limit: int = 1000, json: AsJson = False
) -> None:
    """Show the people of an organisation by name."""

    async def listed(hub: LocalHub, machine: OnMachine) -> UsersListReply:
        return await hub.users.list(machine, UsersList(limit=limit))

    reply = _on_hub(place, organisation, listed)
    if json:
        print(msgspec.json.encode(reply).decode())
        return
    if not reply.users:
        print("There are no users. Make one with `jtnt-hub users create NAME --role org-admin`.")
        return
    titles = ("NAME", "ROLE", "STATE", "SECOND FACTOR", "LAST SIGN-IN")
    print_columns([titles, *(_line(user) for user in reply.users)])


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
    organisation: Organisation = None,
    password_stdin: FromStdin = False,
    json: AsJson = False,
) -> None:
    """Give a user a new password and end all their sign-ins; for one who lost it."""
    password = _read_password() if password_stdin else generated_password(name)

    async def changed(hub: LocalHub, machine: OnMachine) -> UserReply:
        user_id = await hub.users.id_of(machine, name)
        return await hub.users.set_password(machine, UsersSetPassword(user_id=user_id, password=password))

    user = _on_hub(place, organisation, changed).user
    shown = {} if password_stdin else {"password": password}
    if json:
        print(orjson.dumps({"id": user.id, "username": user.username, **shown}).decode())
        return
    print(f"User {user.username} has a new password and is signed out everywhere.")
    if shown:
        print(f"Password, shown this once: {password}")


@app.command(help_epilogue=examples("jtnt-hub users lock ada"))
def lock(name: str, *, place: Place | None = None, organisation: Organisation = None, json: AsJson = False) -> None:
    """End all sign-ins and API keys of a user, and let none begin until they are unlocked."""

    async def locked(hub: LocalHub, machine: OnMachine) -> UserReply:
        return await hub.users.lock(machine, UsersName(user_id=await hub.users.id_of(machine, name)))

    _tell(_on_hub(place, organisation, locked), json, "User {name} is locked and signed out everywhere.")


@app.command(help_epilogue=examples("jtnt-hub users unlock ada"))
def unlock(name: str, *, place: Place | None = None, organisation: Organisation = None, json: AsJson = False) -> None:
    """Let a locked user sign in again. API keys that the lock ended stay ended."""

    async def unlocked(hub: LocalHub, machine: OnMachine) -> UserReply:
        return await hub.users.unlock(machine, UsersName(user_id=await hub.users.id_of(machine, name)))

    _tell(_on_hub(place, organisation, unlocked), json, "User {name} may sign in again.")


@app.command(
    help_epilogue=examples(
        "jtnt-hub users grant ada --role approver",
        "jtnt-hub users grant ada --role technician --organisation berlin",
    )
)
def grant(
    name: str,
    *,
    place: Place | None = None,
    role: Annotated[Role, Parameter(help="What the person may do.")],
    organisation: Organisation = None,
    json: AsJson = False,
) -> None:
    """Give a user a role in an organisation, and let them into it where they are not yet."""

    async def granted(hub: LocalHub, machine: OnMachine) -> UserReply:
        return await hub.users.grant(machine, name, role)

    _tell(_on_hub(place, organisation, granted), json, f"User {{name}} is {role.value} now.")


@app.command(help_epilogue=examples("jtnt-hub users revoke ada --organisation berlin"))
def revoke(name: str, *, place: Place | None = None, organisation: Organisation = None, json: AsJson = False) -> None:
    """Take a user out of an organisation. Who is in none any more is forgotten."""

    async def removed(hub: LocalHub, machine: OnMachine) -> str:
        user_id = await hub.users.id_of(machine, name)
        await hub.users.remove(machine, UsersName(user_id=user_id))
        return user_id

    user_id = _on_hub(place, organisation, removed)
    username = normalised(name)
    print(
        orjson.dumps({"id": user_id, "username": username}).decode()
        if json
        else f"User {username} is in this organisation no more."
    )


@app.command(name="remove-totp", help_epilogue=examples("jtnt-hub users remove-totp ada"))
def remove_totp(
    name: str, *, place: Place | None = None, organisation: Organisation = None, json: AsJson = False
) -> None:
    """Forget a user's authenticator and recovery codes and end all their sign-ins; for one who lost the device."""

    async def removed(hub: LocalHub, machine: OnMachine) -> UserReply:
        return await hub.users.remove_totp(machine, UsersName(user_id=await hub.users.id_of(machine, name)))

    _tell(
        _on_hub(place, organisation, removed),
        json,
        "User {name} has no second factor any more and is signed out everywhere.",
    )


def generated_password(username: str) -> str:
    """Return 100 bits of chance in letters that cannot be mistaken for others, without the user's name in them."""
    while True:
        password = "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))
        if len(username) < NAME_MIN_CHARS or normalised(username) not in password:
            return password


def _read_password() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _on_hub(place: Place | None, organisation: str | None, task: Callable[[LocalHub, OnMachine], Awaitable[T]]) -> T:
    """Run `task` in the organisation of this name or id, without one in the hub's first. Raises CommandFailed."""

    async def there(hub: LocalHub) -> T:
        return await task(hub, OnMachine(organisation_id=await hub.organisation_id(organisation)))

    return with_hub(place or Place(), there)


def _tell(reply: UserReply, as_json: bool, sentence: str) -> None:
    print(msgspec.json.encode(reply.user).decode() if as_json else sentence.format(name=reply.user.username))


def _line(user: UserView) -> tuple[str, ...]:
    signed_in = user.last_sign_in_at
    return (
        user.username,
        user.role.value,
        "locked" if user.locked_at is not None else "open",
        "yes" if user.totp else "no",
        f"{signed_in:%Y-%m-%d %H:%M}" if signed_in is not None else "-",
    )
