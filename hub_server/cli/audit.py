"""`jtnt-hub audit`: what was done, and the proof that nobody changed it since."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from hub_server.audit.service import view_of
from hub_server.audit.store import AuditStore
from hub_server.audit.verification import Fault, Verdict, verify
from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Place, with_hub
from hub_server.cli.outcome import CommandFailed, Exit
from hub_server.pki.audit_keys import signed_audit_keys
from hub_server.storage.engine import EVERY_ORGANISATION
from hub_server.terminal.columns import visible
from protocol.frames import Checkpoint
from protocol.oversight import AuditEntryView, AuditSearch

app = App(
    name="audit",
    help="What was done, and the proof that nobody changed it since.",
    help_epilogue=examples("jtnt-hub audit verify", "jtnt-hub audit search --action 'users:*'"),
)

Organisation = Annotated[
    str | None, Parameter(help="Name or id of an organisation; without it all, and the hub's own deeds.")
]
Words = Annotated[str, Parameter(help="Text in actor, action, target or detail.")]
Action = Annotated[str | None, Parameter(help="An action, or its beginning with a `*`: `users:*`.")]


@app.command(
    name="verify",
    help_epilogue=examples(
        "jtnt-hub audit verify",
        "jtnt-agent witness --json > witness.json",
        "jtnt-hub audit verify --witness witness.json",
    ),
)
def verify_audit(
    *,
    place: Place | None = None,
    witness: Annotated[Path | None, Parameter(help="Checkpoints of an agent: JSON of `jtnt-agent witness`.")] = None,
    json: AsJson = False,
) -> None:
    """Check every entry, head and checkpoint; name the first bad row and end with 1 when there is one.

    A cut-off end is found by the head; when the head was rewritten too, by a later checkpoint or by a witness. Signing
    keys are those of the trust documents that the root signed.
    """
    witnesses = _witnesses_in(witness) if witness else []

    async def verified(hub: LocalHub) -> tuple[Verdict, float]:
        async with hub.database.read(EVERY_ORGANISATION) as connection:
            keys = await signed_audit_keys(connection, hub.authority.root_pem)
        started = time.monotonic()
        verdict = await verify(hub.database, keys.keys, witnesses, keys.revoked)
        return verdict, time.monotonic() - started

    verdict, seconds = with_hub(place or Place(), verified)
    rows = verdict.entries + verdict.checkpoints
    if json:
        rate = {"seconds": round(seconds, 3), "rowsPerSecond": round(rows / max(seconds, 1e-6))}
        print(msgspec.json.encode(msgspec.to_builtins(verdict) | rate).decode())
    else:
        print(
            f"{verdict.entries} entries, {verdict.checkpoints} checkpoints and {verdict.witnesses} witnesses checked "
            f"in {seconds:.1f} s ({rows / max(seconds, 1e-6):,.0f} rows/s)."
        )
    if verdict.faults:
        raise CommandFailed(_said(verdict.faults), Exit.REFUSED)
    if not json:
        print("Nothing was altered.")


@app.command(
    help_epilogue=examples("jtnt-hub audit search restart", "jtnt-hub audit search --actor user:ada --limit 20 --json")
)
def search(
    text: Words = "",
    *,
    place: Place | None = None,
    actor: str | None = None,
    action: Action = None,
    target: str | None = None,
    organisation: Organisation = None,
    limit: int = 100,
    json: AsJson = False,
) -> None:
    """Show entries, newest first."""
    request = _checked({"text": text, "actor": actor, "action": action, "target": target, "limit": limit})

    async def found(hub: LocalHub) -> tuple[Sequence[AuditEntryView], int]:
        organisation_ids = await _organisation_ids(hub, organisation)
        async with hub.database.read(EVERY_ORGANISATION) as connection:
            entries, total = await AuditStore().page(connection, organisation_ids, request)
        return [view_of(*entry) for entry in entries], total

    entries, total = with_hub(place or Place(), found)
    if json:
        print(msgspec.json.encode({"entries": entries, "total": total}).decode())
        return
    for entry in entries:
        print(_line(entry))
    print(f"{len(entries)} of {total} entries." if total else "No entry matches.")


@app.command(
    help_epilogue=examples(
        "jtnt-hub audit export > audit.jsonl", "jtnt-hub audit export --organisation Acme > acme.jsonl"
    )
)
def export(*, place: Place | None = None, action: Action = None, organisation: Organisation = None) -> None:
    """Print every entry as a line of JSON, newest first."""
    request = _checked({"action": action})

    async def printed(hub: LocalHub) -> None:
        organisation_ids = await _organisation_ids(hub, organisation)
        async with hub.database.read(EVERY_ORGANISATION) as connection:
            async for entry in AuditStore().all(connection, organisation_ids, request):
                print(msgspec.json.encode(view_of(*entry)).decode())

    with_hub(place or Place(), printed)


async def _organisation_ids(hub: LocalHub, name: str | None) -> Sequence[str] | None:
    return None if name is None else [(await hub.organisations.named(name)).id]


def _witnesses_in(path: Path) -> list[Checkpoint]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Checkpoint])
    except (msgspec.DecodeError, OSError) as error:
        raise CommandFailed(
            f"{path} is no witness: {error}; take the output of `jtnt-agent witness --json`", Exit.USAGE
        ) from error


def _checked(fields: dict[str, object]) -> AuditSearch:
    try:
        return msgspec.convert({name: value for name, value in fields.items() if value is not None}, AuditSearch)
    except msgspec.ValidationError as error:
        raise CommandFailed(f"this cannot be searched: {error}", Exit.USAGE) from error


def _said(faults: Sequence[Fault]) -> str:
    first = faults[0]
    place = f"{first.table}, {first.hub_id or 'unknown hub'}" + ("" if first.number is None else f", {first.number}")
    more = f" ({len(faults) - 1} more: see --json)" if len(faults) > 1 else ""
    return f"the audit was altered. First bad row: {place}: {first.message}{more}"


def _line(entry: AuditEntryView) -> str:
    """Return the entry without what a terminal would obey: some of it a stranger may have sent."""
    detail = msgspec.json.encode(entry.detail).decode() if entry.detail else ""
    text = f"{entry.at:%Y-%m-%d %H:%M:%S} {entry.actor} {entry.action} {entry.target} {detail}".rstrip()
    return visible(text)
