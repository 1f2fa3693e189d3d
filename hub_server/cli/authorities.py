"""`jtnt-hub ca`: the hub's certificate authority and signing keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cyclopts import App, Parameter

from hub_server.audit.service import AuditService
from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Place, with_hub
from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.clock import SystemClock
from hub_server.pki.engine import ROTATED, Rotated
from hub_server.pki.news import NEWS_NAME, ring
from hub_server.terminal.columns import print_columns
from protocol.enumerations import AuthorityUse
from protocol.oversight import AuthoritiesListReply

ACTOR: Final = "hub-cli"
Which = Literal["all", "agents", "servers", "jobs", "audit"]
_USES: Final[dict[Which, tuple[Rotated, ...]]] = {
    "all": ROTATED,
    "agents": (AuthorityUse.AGENTS,),
    "servers": (AuthorityUse.SERVERS,),
    "jobs": (AuthorityUse.JOBS,),
    "audit": (AuthorityUse.AUDIT,),
}

app = App(
    name="ca",
    help="The hub's certificate authority and signing keys. The hub rotates them itself while the root key is at hand.",
    help_epilogue=examples("jtnt-hub ca show", "jtnt-hub ca rotate agents"),
)


@app.command(help_epilogue=examples("jtnt-hub ca show", "jtnt-hub ca show --json"))
def show(*, place: Place | None = None, json: AsJson = False) -> None:
    """Show every key that agents or people trust, and what is to be done."""
    _print(with_hub(place or Place(), _overview), json=json)


@app.command(
    help_epilogue=examples(
        "jtnt-hub ca rotate agents",
        "jtnt-hub ca rotate all --root-key /media/stick/root.key",
        "jtnt-hub ca rotate jobs --revoke",
    )
)
def rotate(
    which: Annotated[Which | None, Parameter(help="Which keys; all of them by default.")] = None,
    *,
    revoke: Annotated[
        bool, Parameter(negative="", help="The keys in use were stolen: trust them no more, from now on.")
    ] = False,
    root_key: Annotated[Path | None, Parameter(help="File of the root's key, when it is kept offline.")] = None,
    place: Place | None = None,
    json: AsJson = False,
) -> None:
    """Make new keys now. The hub of this machine takes them over within a second, others within a minute.

    No session is lost by it. With --revoke, the new keys are used at once, and the trust document drops the old ones:

    jobs: agents refuse every command that an old key signed, also those under way; give them again.

    audit: what an old key signed before now still counts as evidence. The end of the audit is signed anew.

    servers: the hub shows another certificate. Agents that are away fetch the new document when they come back.

    agents: every session ends, and no certificate of an old CA lets anybody in. Each machine asks by itself to be let
    in again, with a proof by its own key, and waits: approve it under Approvals once you have compared the fingerprint.
    Where recovery is off, enroll each anew.

    An agent that is away goes on trusting an old key until it has reached the true hub.
    """
    if revoke and which is None:
        raise CommandFailed(
            "--revoke needs the name of what was stolen: agents, servers, jobs, audit or all", Exit.USAGE
        )
    uses, pem = _USES[which or "all"], None if root_key is None else read_root_key(root_key)

    async def rotated(hub: LocalHub) -> AuthoritiesListReply:
        await hub.authority.rotate(*uses, actor=ACTOR, root_key_pem=pem, revoke=revoke)
        ring(hub.settings.data_dir / NEWS_NAME)
        if revoke and AuthorityUse.AUDIT in uses:
            await AuditService(database=hub.database, clock=SystemClock(), signer=hub.authority).checkpoint()
        return hub.authority.overview()

    _print(with_hub(place or Place(), rotated), json=json)


@app.command(
    name="export-root",
    help_epilogue=examples(
        "jtnt-hub ca export-root > root.crt", "jtnt-hub ca export-root --with-key /media/stick/root.key --remove"
    ),
)
def export_root(
    *,
    with_key: Annotated[Path | None, Parameter(help="Also write the root's private key, to this new file.")] = None,
    remove: Annotated[bool, Parameter(negative="", help="Then remove the key from the hub: it is offline.")] = False,
    place: Place | None = None,
) -> None:
    """Print the root certificate; with its private key, take the root offline.

    Without the root's key nobody can make a new authority, whatever else of the hub they hold. From then on a person
    rotates, with `jtnt-hub ca rotate --root-key FILE`; the hub says so 60 days ahead.
    """
    if remove and with_key is None:
        raise CommandFailed("--remove needs --with-key FILE: the only copy of the key would be lost", Exit.USAGE)

    async def exported(hub: LocalHub) -> str:
        if with_key is not None:
            _write_key(with_key, hub.authority.root_key_pem())
        if with_key is not None and remove:
            await hub.authority.take_root_offline(read_root_key(with_key), actor=ACTOR)
        return hub.authority.root_pem

    print(with_hub(place or Place(), exported), end="")


async def _overview(hub: LocalHub) -> AuthoritiesListReply:
    return hub.authority.overview()


def read_root_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"the root key {path} cannot be read: {error.strerror}", Exit.USAGE) from error


def _write_key(path: Path, pem: bytes) -> None:
    """The file may be on a stick whose file system knows neither links nor owners."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise CommandFailed(f"{path} is there already; name a new file", Exit.USAGE) from error
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}", Exit.NOT_WRITABLE) from error


def _print(overview: AuthoritiesListReply, *, json: bool) -> None:
    if json:
        print(msgspec.json.encode(overview).decode())
        return
    print_columns(
        [
            ("USE", "STATE", "ENDS", "ROTATES", "ID"),
            *(
                (
                    view.use,
                    view.state,
                    f"{view.not_after:%Y-%m-%d}",
                    "-" if view.rotates_at is None else f"{view.rotates_at:%Y-%m-%d}",
                    view.id,
                )
                for view in overview.authorities
            ),
        ]
    )
    root = "at hand: the hub rotates by itself" if overview.root_at_hand else "offline"
    print(f"Trust document {overview.trust_version}. The root's key is {root}.")
    for sentence in overview.advice:
        print(f"To do: {sentence}.")
