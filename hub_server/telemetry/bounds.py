"""How much one kind of samples of one machine may have in an hour: what its hour takes to be closed. Pure.

An hour is closed as a table, a row a sample and a column a name, whether a sample has that name or not: names that are
new with each sample would make it grow with the square of the samples.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from hub_server.telemetry.model import TYPES_PER_AGENT_MAX
from hub_server.telemetry.port import NewSample
from protocol.frames import MetricValue
from protocol.limits import METRIC_NAMES_MAX

HOUR_MS: Final = 3_600_000
NAMES_PER_HOUR_MAX: Final = 4 * METRIC_NAMES_MAX
"""Of one kind of samples. A disk, an interface, a sensor and a plugin are a kind each; the largest has some 30."""
SAMPLES_PER_HOUR_MAX: Final = 100_000
"""Of one kind: a sample a second is 3,600."""
CELLS_PER_HOUR_MAX: Final = 2_000_000
"""Samples times names: two samples a second that have as many names as a sample may."""
HOUR_TEXT_MAX: Final = 64 << 20
"""How much an hour is closed with, text of rows and what is packed already, in bytes: few samples may be long."""
NAMES_PER_AGENT_MAX: Final = 4096
"""Of all kinds in an hour. The first sample of a kind is taken beyond it, so that one kind cannot keep out others."""
KINDS_PER_AGENT_MAX: Final = 2 * TYPES_PER_AGENT_MAX
"""In an hour: those it has, and as many that it had while it could not send."""
SHARED_NAMES_MAX: Final = 512

_NO_NAMES: Final[frozenset[str]] = frozenset()


def fits(samples: int, names: int) -> bool:
    """Tell whether an hour of one kind may be as large."""
    return (
        samples <= SAMPLES_PER_HOUR_MAX
        and names <= NAMES_PER_HOUR_MAX
        and samples * max(names, 1) <= CELLS_PER_HOUR_MAX
    )


def within(samples: Sequence[tuple[int, Mapping[str, MetricValue]]]) -> Sequence[tuple[int, Mapping[str, MetricValue]]]:
    """Return those of (time, data) that an hour has room for, the first ones."""
    names = {name for shape in {tuple(data) for _, data in samples} for name in shape}
    if fits(len(samples), len(names)):
        return samples
    sheet = Sheet()
    return [(at_ms, data) for at_ms, data in samples if sheet.takes(data)]


class Sheet:
    """Which samples fit into an hour that is being closed; who comes first has the room."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._samples = 0
        self.is_full = False
        """Whether some were not taken."""

    def hold(self, names: Iterable[str], samples: int) -> None:
        """Take what is in the hour already."""
        self._names.update(names)
        self._samples += samples

    def takes(self, names: Collection[str], samples: int = 1) -> bool:
        """Take samples that all have `names`, or none of them; returns which."""
        new = sum(name not in self._names for name in names)
        if not fits(self._samples + samples, len(self._names) + new):
            self.is_full = True
            return False
        self._samples += samples
        if new:
            self._names.update(names)
        return True


class _Kind(Struct, gc=False):
    """What came of one kind of samples: `names` since the allowance began, `samples` of `hour` and of other hours."""

    names: frozenset[str] = _NO_NAMES
    hour: int = 0
    samples: int = 0
    others: dict[int, int] | None = None

    def turn_to(self, hour: int) -> None:
        others = self.others
        if others is None:
            others = self.others = {}
        others[self.hour] = self.samples
        self.hour, self.samples = hour, others.get(hour, 0)


class Allowance:
    """What one agent may send within an hour of the hub's clock."""

    __slots__ = ("_kinds", "_names", "_shared", "is_exceeded", "since_hour")

    def __init__(self, since_hour: int, shared: dict[frozenset[str], frozenset[str]]) -> None:
        self.since_hour = since_hour
        self.is_exceeded = False
        self._shared = shared
        self._kinds: dict[str, _Kind] = {}
        self._names = 0

    def takes(self, metric_type: str, ts_ms: int, data: Mapping[str, MetricValue]) -> bool:
        """Take a sample, or tell that it is beyond what the hour that it is of may have."""
        kind = self._kinds.get(metric_type)
        if kind is None:
            if len(self._kinds) >= KINDS_PER_AGENT_MAX:
                return False
            kind = self._kinds[metric_type] = _Kind(hour=ts_ms // HOUR_MS)
        hour = ts_ms // HOUR_MS
        if hour != kind.hour:
            kind.turn_to(hour)
        names = kind.names
        if not names.issuperset(data) and not self._widened(kind, data):
            return False
        samples = kind.samples + 1
        if samples > SAMPLES_PER_HOUR_MAX or samples * len(kind.names) > CELLS_PER_HOUR_MAX:
            return False
        kind.samples = samples
        return True

    def give_back(self, metric_type: str, ts_ms: int) -> None:
        """Take a sample for not sent: it was not stored."""
        kind = self._kinds[metric_type]
        hour = ts_ms // HOUR_MS
        if hour != kind.hour:
            kind.turn_to(hour)
        kind.samples -= 1

    def _widened(self, kind: _Kind, data: Mapping[str, MetricValue]) -> bool:
        names = kind.names.union(data)
        grown = self._names + len(names) - len(kind.names)
        if not fits(kind.samples + 1, len(names)) or (kind.names and grown > NAMES_PER_AGENT_MAX):
            return False
        self._names = grown
        if len(self._shared) < SHARED_NAMES_MAX:
            names = self._shared.setdefault(names, names)
        else:
            names = self._shared.get(names, names)
        kind.names = names
        return True


class Allowances:
    """The allowances of all agents, in some hundred bytes each. They begin anew with each hour of the hub's clock, and
    with the hub: what an hour may have in all is kept to when it is closed.
    """

    def __init__(self) -> None:
        self._agents: dict[str, Allowance] = {}
        self._shared: dict[frozenset[str], frozenset[str]] = {}

    def of(self, agent_id: str, now_hour: int) -> Allowance:
        """`now_hour`: of the hub's clock, since the epoch."""
        allowance = self._agents.get(agent_id)
        if allowance is None or allowance.since_hour != now_hour:
            allowance = self._agents[agent_id] = Allowance(now_hour, self._shared)
        return allowance

    def give_back(self, samples: Iterable[NewSample]) -> None:
        """Take samples for not sent, which were taken since the last call of anything else."""
        for sample in samples:
            allowance = self._agents.get(sample.key.agent_id)
            if allowance is not None:  # else the agent was deleted meanwhile
                allowance.give_back(sample.metric_type, sample.ts_ms)

    def forget(self, agent_id: str) -> None:
        self._agents.pop(agent_id, None)
