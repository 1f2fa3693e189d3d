"""How sections get onto the shelf: hashed, parted, and in place all at once. Not used by the daemon itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agent_client.inventory.shelf import INDEX, Stored, index_of
from agent_client.store.secure import SecureStore
from protocol.inventory import PART_MAX_BYTES, PARTS_MAX, hash_of

PART_BYTES: Final = 8 * 1024
"""Parts are of this size while that makes few enough of them."""
_FRAME_BYTES: Final = 1024


def put_sections(folder: Path, bodies: Mapping[str, dict[str, Any]]) -> None:
    """Put sections in place of those of their names; the others stay. Raises StoreError."""
    store, index = SecureStore(folder), dict(index_of(folder))
    store.prepare()
    for section, body in bodies.items():
        lines = _parts_of(body)
        kept = _fitting(body, lines)
        digest = hash_of(kept)
        file = f"{section}-{digest[:16]}.parts"
        store.save(file, b"\n".join(lines) + b"\n")
        index[section] = Stored(digest, len(lines), file)
    store.save(INDEX, msgspec.json.encode(index))
    _forget_others(folder, {stored.file for stored in index.values()})


def _parts_of(body: dict[str, Any]) -> list[bytes]:
    """Return the parts as JSON, at most PARTS_MAX of at most PART_MAX_BYTES; items beyond that are left out."""
    items = body.get("items")
    if items is None:
        return [msgspec.json.encode(body)]
    encoded = [msgspec.json.encode(item) for item in items]
    total = sum(len(item) + 1 for item in encoded)
    limit = min(max(PART_BYTES - _FRAME_BYTES, total // (PARTS_MAX - 8)), PART_MAX_BYTES - _FRAME_BYTES)
    chunks: list[list[bytes]] = [[]]
    size = 0
    for item in encoded:
        if chunks[-1] and size + len(item) + 1 > limit:
            if len(chunks) == PARTS_MAX:
                break
            chunks.append([])
            size = 0
        chunks[-1].append(item)
        size += len(item) + 1
    return [b'{"items":[' + b",".join(chunk) + b"]}" for chunk in chunks]


def _fitting(body: dict[str, Any], lines: list[bytes]) -> dict[str, Any]:
    """Return what the parts hold together."""
    if "items" not in body:
        return body
    return {"items": [item for line in lines for item in msgspec.json.decode(line)["items"]]}


def _forget_others(folder: Path, kept: set[str]) -> None:
    for path in folder.glob("*.parts"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
