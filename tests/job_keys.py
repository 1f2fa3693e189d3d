"""The signer of jobs without its process: the real strongbox, which signs whatever it is given."""

from __future__ import annotations

from pathlib import Path

from hub_server.signing.strongbox import Strongbox


class JobKeysHere:
    """`path`: the signer's key file."""

    def __init__(self, path: Path) -> None:
        self.strongbox = Strongbox(path)

    async def make(self) -> tuple[bytes, bytes]:
        return self.strongbox.make()

    async def adopt(self, private_key: bytes) -> tuple[bytes, bytes]:
        return self.strongbox.adopt(private_key)

    async def sign(self, key_id: str, sealed: bytes, payload: bytes) -> bytes:
        return self.strongbox.sign(key_id, sealed, payload)
