"""`jtnt-hub init`."""

from __future__ import annotations

import orjson

from hub_server.cli.local_hub import AsJson, LocalHub, Place, with_hub


def init(*, place: Place | None = None, json: AsJson = False) -> None:
    """Make a hub's data folder: database, certificate authority, first organisation. Once more changes nothing."""
    place = place or Place()
    organisation_id, data_dir = with_hub(place, _made, set_up=True)
    if json:
        print(orjson.dumps({"dataDir": data_dir, "organisationId": organisation_id}).decode())
        return
    print(f"The hub in {data_dir} is ready. Next:")
    print(f"  jtnt-hub users create NAME --role org-admin --data-dir {data_dir}")
    print(f"  jtnt-hub serve --data-dir {data_dir}")


async def _made(hub: LocalHub) -> tuple[str, str]:
    return await hub.organisation_id(), str(hub.settings.data_dir)
