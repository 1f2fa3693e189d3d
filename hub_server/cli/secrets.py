"""`jtnt-hub secrets`: the key that seals secrets in the database."""

from __future__ import annotations

import orjson
from cyclopts import App

from hub_server.audit.record import record
from hub_server.cli.examples import examples
from hub_server.cli.local_hub import AsJson, LocalHub, Place, with_hub
from hub_server.clock import SystemClock
from hub_server.storage.engine import EVERY_ORGANISATION
from hub_server.storage.sealed_columns import exchange_key

ACTOR = "hub-cli"

app = App(
    name="secrets",
    help="The key that seals secrets in the database.",
    help_epilogue=examples("jtnt-hub secrets rotate"),
)


@app.command(help_epilogue=examples("jtnt-hub secrets rotate --data-dir /var/lib/jtnt"))
def rotate(*, place: Place | None = None, json: AsJson = False) -> None:
    """Make a new secrets key, seal every secret with it, and drop the old key. The hub may run meanwhile.

    Copies of the old key still open old backups of the database: keep them with those backups.
    """
    count, where = with_hub(place or Place(), _rotated)
    if json:
        print(orjson.dumps({"resealed": count, "key": where}).decode())
        return
    print(f"{count} secrets are sealed with a new key, which is in {where}. Copy it to where you keep such keys.")


async def _rotated(hub: LocalHub) -> tuple[int, str]:
    count = await exchange_key(hub.database, hub.vault)
    async with hub.database.write(EVERY_ORGANISATION) as connection:
        await record(
            connection,
            organisation_id=EVERY_ORGANISATION,
            at=SystemClock().now(),
            actor=ACTOR,
            action="secrets:rotate",
            target="hub:secrets",
            detail={"resealed": count},
        )
    return count, hub.vault.place
