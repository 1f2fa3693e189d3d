"""Whether those whom this hub let in may still be here: asked at every operation, so it is kept in memory.

Whatever ends a sign-in or a key on this hub says so here right after its commit, before anything else can run: the next
operation of every socket concerned is refused, and `changed` wakes who closes them. What another process did (the
command line, another hub) comes from the database with the sweep of the dashboards' server, every half a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final
from weakref import WeakSet

from msgspec import Struct

from hub_server.access.model import Principal


class Standing:
    """One admission. Whoever holds it looks at `is_over`; it is forgotten when nobody holds it any more."""

    __slots__ = ("__weakref__", "is_over", "organisation_id", "session_id", "user_id")

    def __init__(self, user_id: str, organisation_id: str, session_id: str) -> None:
        self.user_id: Final = user_id
        self.organisation_id: Final = organisation_id
        self.session_id: Final = session_id
        self.is_over = False


class Session(Struct, frozen=True, kw_only=True):
    """Who an access token or an API key speaks for, in which sign-in or key, and until when."""

    principal: Principal
    session_id: str
    expires_at: datetime
    standing: Standing


class Standings:
    def __init__(self) -> None:
        self._open: WeakSet[Standing] = WeakSet()
        self.changed: Final = asyncio.Event()

    def open(self, user_id: str, organisation_id: str, session_id: str) -> Standing:
        """Return a new standing. Take it before the database is asked, so that no end between the two is missed."""
        standing = Standing(user_id, organisation_id, session_id)
        self._open.add(standing)
        return standing

    def end_sessions(self, session_ids: Collection[str]) -> None:
        self.end(standing for standing in self._open if standing.session_id in session_ids)

    def end_user(self, user_id: str, *, organisation_id: str | None = None, but_session: str | None = None) -> None:
        """End all that a person holds, sign-ins and keys, in one organisation or in all."""
        self.end(
            standing
            for standing in self._open
            if standing.user_id == user_id
            and organisation_id in {None, standing.organisation_id}
            and standing.session_id != but_session
        )

    def end(self, standings: Iterable[Standing]) -> None:
        for standing in standings:
            standing.is_over = True
            self.changed.set()
