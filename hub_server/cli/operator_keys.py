"""`jtnt-hub operator-keys`: people whose signature counts beside the hub's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import App, Parameter

from hub_server.cli.authorities import ACTOR, read_root_key
from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Place, with_hub
from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.clock import from_milliseconds
from hub_server.pki.news import NEWS_NAME, ring
from hub_server.pki.operator_keys import AddOperator, RevokeOperator, named, operator_key_in
from hub_server.pki.trust import document_of
from hub_server.terminal.columns import print_columns
from protocol.envelope import SigningKey

DAYS_MAX: Final = 3650
FILE_MAX_CHARS: Final = 4096
RootKey = Annotated[Path | None, Parameter(help="File of the root's key, when it is kept offline.")]

app = App(
    name="operator-keys",
    help="People's keys, with which they sign commands beside the hub. Machines may demand them: `jtnt-agent policy`.",
    help_epilogue=examples("jtnt-hub operator-keys add ada ada.pub", "jtnt-hub operator-keys list"),
)


@app.command(
    help_epilogue=examples(
        "jtnt keys show > ada.pub && jtnt-hub operator-keys add ada ada.pub",
        "jtnt-hub operator-keys add ada ada.pub --days 90 --root-key /media/stick/root.key",
    )
)
def add(
    name: str,
    public_key_file: Path,
    *,
    days: Annotated[int, Parameter(help="How long it counts, 1 to 3650.")] = 365,
    root_key: RootKey = None,
    place: Place | None = None,
    json: AsJson = False,
) -> None:
    """Let a person's key count. Agents that are connected know it at once, by the next trust document.

    No person's key suffices alone: the hub's signer signs too. The private half stays with the person.
    """
    if not 1 <= days <= DAYS_MAX:
        raise CommandFailed(f"--days takes 1 to {DAYS_MAX}", Exit.USAGE)
    line, pem = _line_in(public_key_file), None if root_key is None else read_root_key(root_key)

    async def added(hub: LocalHub) -> SigningKey:
        key = operator_key_in(line, name, datetime.now(UTC) + timedelta(days=days))
        await hub.authority.change_operators(AddOperator(key), actor=ACTOR, root_key_pem=pem)
        ring(hub.settings.data_dir / NEWS_NAME)
        return key

    key = with_hub(place or Place(), added)
    if json:
        print(msgspec.json.encode(key).decode())
        return
    print(f"The key {key.key_id} of {key.name} counts until {from_milliseconds(key.not_after_ms):%Y-%m-%d}.")


@app.command(name="list", help_epilogue=examples("jtnt-hub operator-keys list --json"))
def list_keys(*, place: Place | None = None, json: AsJson = False) -> None:
    """Show the people's keys that count."""

    async def listed(hub: LocalHub) -> list[SigningKey]:
        return document_of(hub.authority.trust).operator_keys

    keys = with_hub(place or Place(), listed)
    if json:
        print(msgspec.json.encode(keys).decode())
        return
    if not keys:
        print("There are no operators' keys. Add one with `jtnt-hub operator-keys add NAME PUBLIC-KEY-FILE`.")
        return
    rows = [(key.key_id, key.name, f"{from_milliseconds(key.not_after_ms):%Y-%m-%d}") for key in keys]
    print_columns([("ID", "NAME", "COUNTS UNTIL"), *rows])


@app.command(
    help_epilogue=examples("jtnt-hub operator-keys revoke ada", "jtnt-hub operator-keys revoke mfrggzdfmztwq2lk")
)
def revoke(name_or_id: str, *, root_key: RootKey = None, place: Place | None = None, json: AsJson = False) -> None:
    """Let a person's key count no more, for ever. Agents that are away go on believing it until they are back."""
    pem = None if root_key is None else read_root_key(root_key)

    async def revoked(hub: LocalHub) -> SigningKey:
        key = named(document_of(hub.authority.trust), name_or_id)
        await hub.authority.change_operators(RevokeOperator(key.key_id, key.name), actor=ACTOR, root_key_pem=pem)
        ring(hub.settings.data_dir / NEWS_NAME)
        return key

    key = with_hub(place or Place(), revoked)
    print(msgspec.json.encode(key).decode() if json else f"The key {key.key_id} of {key.name} is revoked.")


def _line_in(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(FILE_MAX_CHARS)
    except (OSError, UnicodeError) as error:
        raise CommandFailed(f"the public key {path} cannot be read: {error}", Exit.USAGE) from error
