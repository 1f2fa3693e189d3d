"""What the bench and a worker process say to each other: one JSON object a line, orders in, reports out."""

from __future__ import annotations

from msgspec import Struct


class Enroll(Struct, frozen=True, tag=True):
    """Get identities `first` to `first + count - 1` from the hub into `folder`, `at_once` in parallel."""

    join_string: str
    folder: str
    first: int
    count: int
    at_once: int = 8


class Connect(Struct, frozen=True, tag=True):
    """Connect agents with the identities in `folder`. Silent ones hold the connection and say nothing.

    `sample_seconds` 0 takes the interval that the hub sets.
    """

    port: int
    folder: str
    first: int
    count: int
    per_second: float
    at_once: int = 16
    silent: bool = False
    sample_seconds: float = 0.0


class Watch(Struct, frozen=True, tag=True):
    """Open `count` dashboards, of which `subscribed` use the feed and confirm each of its batches."""

    web_url: str
    token: str
    count: int
    subscribed: int


class Begin(Struct, frozen=True, tag=True):
    """Count and measure from now on."""


class Finish(Struct, frozen=True, tag=True):
    """Say what was counted and measured since `Begin`."""


Plan = Enroll | Connect | Watch
Order = Begin | Finish


class Ready(Struct, frozen=True, tag=True):
    """The plan is carried out as far as possible; `problems`: what went wrong → how often."""

    done: int
    took_seconds: float
    problems: dict[str, int] = {}


class Begun(Struct, frozen=True, tag=True):
    pass


class Counted(Struct, frozen=True, tag=True):
    """What a worker saw in its window.

    Agents: `sent` and `answered` are frames of samples and their acknowledgements, `delays_ms` the times between them.
    Dashboards: `answered` are events, `delays_ms` the times from a sample's taking to its arrival.
    `slips_ms`: how late each send came against its schedule. `cpu_share`: of one core.
    """

    connected: int
    sent: int
    answered: int
    delays_ms: list[float]
    slips_ms: list[float]
    cpu_share: float
    problems: dict[str, int] = {}


class Failed(Struct, frozen=True, tag=True):
    """The worker cannot go on."""

    message: str


Report = Ready | Begun | Counted | Failed
