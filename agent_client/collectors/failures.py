"""Which collectors fail: said once when it begins and once when it ends, also across a restart of the daemon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from agent_client.collectors.readings import wire_text
from agent_client.logs import Log
from agent_client.spool.database import Database, DatabaseError
from agent_client.spool.spool import Spool
from protocol.frames import MetricData
from protocol.reports import COLLECTOR_FAILING, COLLECTOR_RECOVERED

_META: Final = "failing_collectors"
_REASON_MAX_CHARS: Final = 1024

_log = Log("collectors")


class Failures:
    """Counts failures by collector. The hub hears of the first one and of the recovery, once the spool takes it."""

    def __init__(self, spool: Spool, database: Database) -> None:
        self._spool = spool
        self._database = database
        self._told = _told(database)
        self._counts = dict.fromkeys(self._told, 1)

    def names(self) -> list[str]:
        return sorted(self._counts)

    def failed(self, name: str, reason: str, exception: BaseException | None = None) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        if name in self._told:
            return
        if self._counts[name] == 1:
            _log.error("collector failing", collector=name, reason=reason, exception=exception)
        data: MetricData = {"collector": name, "reason": wire_text(reason, _REASON_MAX_CHARS)}
        self._tell(COLLECTOR_FAILING, data, self._told | {name})

    def worked(self, name: str) -> None:
        """Say that it recovered, if it failed before. Cheap otherwise."""
        failures = self._counts.pop(name, 0)
        if failures:
            _log.info("collector works again", collector=name, failures=failures)
        if name in self._told:
            self._tell(COLLECTOR_RECOVERED, {"collector": name, "failures": max(failures, 1)}, self._told - {name})

    def drop(self, is_gone: Callable[[str], bool]) -> None:
        """Let collectors recover that are not there any more."""
        for name in [name for name in self._counts if is_gone(name)]:
            self.worked(name)

    def _tell(self, kind: str, data: MetricData, told: frozenset[str]) -> None:
        try:
            self._spool.append_event(kind, data)
            with self._database.transaction():
                self._database.set_meta(_META, msgspec.json.encode(sorted(told)).decode())
        except DatabaseError as error:
            _log.error("event not taken by the spool, it is tried again", kind=kind, reason=str(error))
        else:
            self._told = told


def _told(database: Database) -> frozenset[str]:
    """Return what failed when the daemon ended, as the hub knows it."""
    try:
        return frozenset(msgspec.json.decode(database.meta(_META) or "[]", type=list[str]))
    except msgspec.DecodeError:
        return frozenset()
