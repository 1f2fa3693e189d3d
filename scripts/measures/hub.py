"""A hub under measurement that has an administrator, and collects its garbage when asked."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hub_server.bench.hub import Hub as PlainHub
from hub_server.bench.processes import finished, own_module, own_program
from scripts.load.person import sign_in

USERNAME: Final = "bench"
ACCESS_SECONDS: Final = 3600
OPERATIONS_PER_SECOND: Final = 10_000
"""One administrator asks what a whole staff would."""


class Hub(PlainHub):
    """`variables`: further settings. `serve`: another program that runs it."""

    def __init__(
        self, folder: Path, variables: Mapping[str, str] | None = None, serve: Sequence[str] | None = None
    ) -> None:
        settings = {
            "JTNT_ACCESS__ACCESS_TOKEN_SECONDS": str(ACCESS_SECONDS),
            "JTNT_ACCESS__OPERATIONS_PER_SECOND": str(OPERATIONS_PER_SECOND),
            **(variables or {}),
        }
        super().__init__(folder, settings, serve or own_module("scripts.measures.observed_hub", "serve"))
        self._password = secrets.token_urlsafe(18)

    async def create_administrator(self) -> None:
        """Raises BenchFailed."""
        person = ("users", "create", USERNAME, "--role", "org-admin", "--password-stdin")
        await finished(own_program("jtnt-hub", *person), self.environment, self._password + "\n")

    async def start_as_users_do(self) -> float:
        """Do as `start`, with the installed program."""
        return await self.start_by(own_program("jtnt-hub", "serve"))

    async def access_token(self) -> str:
        return await sign_in(self.web_url, USERNAME, self._password)
