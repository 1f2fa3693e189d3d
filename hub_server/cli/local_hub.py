"""The hub's database and keys, opened beside a hub that may be running."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from hub_server import logs
from hub_server.access.organisations import OrganisationService
from hub_server.access.passwords import Passwords
from hub_server.access.quotas import Quotas
from hub_server.access.standings import NEWS_NAME, Standings
from hub_server.access.users import UserService
from hub_server.cli.failures import explained
from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.clock import SystemClock
from hub_server.commands.store import CommandStore
from hub_server.config import Settings, load
from hub_server.enrollment.keys import KeyDesk
from hub_server.enrollment.tokens import TokenDesk
from hub_server.fleet.store import FleetStore
from hub_server.opening import open_authority, signer_of
from hub_server.pki.authority import Authority
from hub_server.pki.files import is_set_up
from hub_server.storage.engine import Database
from hub_server.storage.hub_id import hub_id_in
from hub_server.storage.migrate import migrate
from hub_server.storage.vault import Vault

T = TypeVar("T")


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Which hub a command is about."""

    data_dir: Path | None = None
    "Folder of the hub's database and keys (default: var)."
    config: Path | None = None
    "Settings file (default: hub.toml in the data folder, if there)."

    def settings(self) -> Settings:
        return load(config=self.config, data_dir=self.data_dir)


Organisation = Annotated[
    str | None, Parameter(help="Name or id of the organisation (default: the hub's first one).", negative="")
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for programs.")]


@dataclass(frozen=True)
class LocalHub:
    settings: Settings
    database: Database
    vault: Vault
    authority: Authority
    users: UserService
    organisations: OrganisationService
    tokens: TokenDesk
    keys: KeyDesk

    async def organisation_id(self, named: str | None = None) -> str:
        """Return the id of the organisation of this name or id, of the hub's first without one. Raises NotFound."""
        if named is None:
            return await self.users.ensure_default_organisation()
        return (await self.organisations.named(named)).id


def with_hub(place: Place, task: Callable[[LocalHub], Awaitable[T]], *, set_up: bool = False) -> T:
    """Run `task` on the hub of `place` and return what it returns. `set_up` makes the hub where there is none.

    Raises CommandFailed.
    """
    logs.configure("error", sys.stderr)
    with explained():
        settings = place.settings()
    with explained(settings):
        return asyncio.run(_run(settings, task, set_up=set_up))


async def _run(settings: Settings, task: Callable[[LocalHub], Awaitable[T]], *, set_up: bool) -> T:
    async with _opened(settings, set_up=set_up) as hub:
        return await task(hub)


@asynccontextmanager
async def _opened(settings: Settings, *, set_up: bool) -> AsyncIterator[LocalHub]:
    if not set_up and not is_set_up(settings.pki_dir):
        raise CommandFailed(
            f"there is no hub in {settings.data_dir}: run `jtnt-hub init --data-dir {settings.data_dir}`, "
            "or give --data-dir the folder of yours",
            Exit.NOT_SET_UP,
        )
    make_data_dir(settings)
    vault = Vault.open(settings.data_dir, settings.secrets)
    database = Database(settings.resolved_database_url, hub_id=hub_id_in(settings.data_dir))
    signer = signer_of(settings)
    try:
        await migrate(database)
        clock = SystemClock()
        authority = await open_authority(settings, database, vault, clock, signer)
        host, port = settings.join_host_port
        yield LocalHub(
            settings=settings,
            database=database,
            vault=vault,
            authority=authority,
            users=UserService(
                database=database,
                clock=clock,
                passwords=Passwords(),
                standings=Standings(rings=settings.data_dir / NEWS_NAME),
                quotas=Quotas(agents=FleetStore().counts, open_commands=CommandStore().open_counts),
            ),
            organisations=OrganisationService(database=database, clock=clock, agents=FleetStore().counts),
            tokens=TokenDesk(
                database=database, clock=clock, root_pin=authority.root_pin, join_host=host, join_port=port
            ),
            keys=KeyDesk(database=database, clock=clock),
        )
    finally:
        await signer.close()
        await database.close()


def make_data_dir(settings: Settings) -> None:
    """Make the data folder, for this user alone. Raises CommandFailed when there can be none."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(
            f"the folder {settings.data_dir} cannot be made ({error.strerror}); give --data-dir a folder of your own",
            Exit.NOT_WRITABLE,
        ) from error
