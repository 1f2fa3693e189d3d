"""Whether those whom this hub let in may still be here: asked at every operation, so it is kept in memory.

Whatever ends a sign-in or a key on this hub says so here right after its commit, before anything else can run: the next
operation of every socket concerned is refused, and `changed` wakes who closes them. An operation costs one look at an
attribute and one `stat`, and no query.

The command line runs in a process of its own: after its commit it lets a file grow by a byte, and the first operation
that sees another size looks into the database before it goes on. What nobody told (another hub) comes with the sweep
of the dashboards' server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Final
from weakref import WeakSet

from msgspec import Struct

from hub_server.access.model import Principal

NEWS_NAME: Final = "access.news"


class Standing:
    """One admission. Whoever holds it looks at `is_over`; it is forgotten when nobody holds it any more."""

    __slots__ = ("__weakref__", "is_key", "is_over", "organisation_id", "session_id", "user_id")

    def __init__(self, user_id: str, organisation_id: str, session_id: str, *, is_key: bool = False) -> None:
        self.user_id: Final = user_id
        self.organisation_id: Final = organisation_id
        self.session_id: Final = session_id
        self.is_key: Final = is_key
        self.is_over = False


class Session(Struct, frozen=True, kw_only=True):
    """Who an access token or an API key speaks for, in which sign-in or key, and until when."""

    principal: Principal
    session_id: str
    expires_at: datetime
    standing: Standing


class Standings:
    """`hears`: the file by which the command line tells this hub; `rings`: that file, for the command line."""

    def __init__(self, *, hears: Path | None = None, rings: Path | None = None) -> None:
        self._open: WeakSet[Standing] = WeakSet()
        self._hears = hears
        self._rings = rings
        self._heard = self.news()
        self.changed: Final = asyncio.Event()

    def has_news(self) -> bool:
        """Tell whether another process ended something since `note_heard`."""
        return self.news() != self._heard

    def news(self) -> int:
        try:
            return self._hears.stat().st_size if self._hears is not None else 0
        except OSError:
            return 0

    def note_heard(self, news: int) -> None:
        """`news`: as it was before the database was asked."""
        self._heard = news

    def open(self, user_id: str, organisation_id: str, session_id: str, *, is_key: bool = False) -> Standing:
        """Return a new standing. Take it before the database is asked, so that no end between the two is missed."""
        standing = Standing(user_id, organisation_id, session_id, is_key=is_key)
        self._open.add(standing)
        return standing

    def end_sessions(self, session_ids: Collection[str]) -> None:
        self._tell()
        self.end(standing for standing in self._open if standing.session_id in session_ids)

    def end_user(
        self,
        user_id: str,
        *,
        organisation_id: str | None = None,
        but_session: str | None = None,
        keys: Collection[str] = (),
    ) -> None:
        """End a person's sign-ins, in one organisation or in all, and those of their keys whose session ids are named:
        a key that was not revoked goes on.
        """
        self._tell()
        self.end(
            standing
            for standing in self._open
            if standing.session_id in keys
            or (
                standing.user_id == user_id
                and not standing.is_key
                and organisation_id in {None, standing.organisation_id}
                and standing.session_id != but_session
            )
        )

    def end(self, standings: Iterable[Standing]) -> None:
        for standing in standings:
            standing.is_over = True
            self.changed.set()

    def _tell(self) -> None:
        if self._rings is not None:
            with self._rings.open("ab") as file:
                file.write(b".")
