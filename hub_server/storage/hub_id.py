"""The name of a hub: made once, kept in its data folder, and part of every audit entry it writes."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Final

from hub_server.storage.private_files import KeysRefused, create_private

HUB_ID_NAME: Final = "hub.id"
_FORM: Final = re.compile(r"hub-[0-9a-f]{16}")


def hub_id_in(data_dir: Path) -> str:
    """Return the id of the hub whose folder this is; the first call makes it.

    Raises KeysRefused when the file holds something else, and OSError.
    """
    path = data_dir / HUB_ID_NAME
    create_private(path, f"hub-{secrets.token_hex(8)}\n".encode())
    hub_id = path.read_text(errors="replace").strip()
    if _FORM.fullmatch(hub_id) is None:
        raise KeysRefused(
            f"{path} does not hold the id of a hub; restore it from a backup, or remove it to begin a new audit chain"
        )
    return hub_id
