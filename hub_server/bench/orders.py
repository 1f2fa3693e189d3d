"""What the bench and a worker process say to each other: one JSON object a line, orders in, reports out."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Values = Literal["agent", "seed"]
"""What a sample holds: all that a real agent says, or the eight values that the promises are about."""


class Enroll(Struct, frozen=True, tag=True):
    """Get identities `first` to `first + count - 1` from the hub into `folder`, `at_once` in parallel."""

    join_string: str
    folder: str
    first: int
    count: int
    at_once: int = 16


class Pressure(Struct, frozen=True):
    """Agents that have always more to say: a frame of `samples_per_frame` whenever fewer than `in_flight` are not yet
    acknowledged and the hub's credits allow, at most `frames_per_second` an agent."""

    samples_per_frame: int
    frames_per_second: float
    in_flight: int = 2


class Connect(Struct, frozen=True, tag=True):
    """Connect agents with the identities in `folder`. Silent ones hold the connection and say nothing.

    `sample_seconds` 0 takes the interval that the hub sets; a sample is taken of each of `metric_types`. The first
    `alarmed` agents are beyond a threshold for `alarm_samples`, then below it for as many. `returns`: what it takes to
    connect them all once more at `Return` is made before, so that it costs nothing then.
    """

    port: int
    folder: str
    first: int
    count: int
    per_second: float
    at_once: int = 16
    silent: bool = False
    sample_seconds: float = 0.0
    metric_types: tuple[str, ...] = ("system",)
    alarmed: int = 0
    alarm_samples: int = 2
    values: Values = "agent"
    pressure: Pressure | None = None
    returns: bool = False


class Knock(Struct, frozen=True, tag=True):
    """Do `count` handshakes and upgrades, each with the identity of another agent, and drop each connection then."""

    port: int
    folder: str
    first: int
    count: int
    at_once: int = 16


class Begin(Struct, frozen=True, tag=True):
    """Count and measure from now on."""


class Finish(Struct, frozen=True, tag=True):
    """Say what was counted and measured since `Begin`."""


class Return(Struct, frozen=True, tag=True):
    """Connect all agents that lost their connection, `at_once` in parallel, and say when that is done."""

    at_once: int


class Rest(Struct, frozen=True, tag=True):
    """Take no further samples, and say what was acknowledged once nothing is on its way, or after 20 s."""


Plan = Enroll | Connect | Knock
Order = Begin | Finish | Return | Rest


class Ready(Struct, frozen=True, tag=True):
    """The plan is carried out as far as possible; `problems`: what went wrong → how often."""

    done: int
    took_seconds: float
    problems: dict[str, int] = {}


class Begun(Struct, frozen=True, tag=True):
    pass


class Counted(Struct, frozen=True, tag=True):
    """What a worker saw in its window.

    Agents: `sent` and `answered` are frames of samples and their acknowledgements, `samples` those acknowledged,
    `delays_ms` the times from a frame to its acknowledgement.
    Dashboards: `answered` are events, `samples` and `received_bytes` what was in them, `wire_bytes` what they were when
    they came, `delays_ms` the times from a sample's taking to its arrival, `alert_delays_ms` from an alert's opening.
    `slips_ms`: how late each send came against its schedule. `cpu_share`: of one core.
    """

    connected: int
    sent: int
    answered: int
    delays_ms: list[float]
    slips_ms: list[float]
    cpu_share: float
    samples: int = 0
    received_bytes: int = 0
    wire_bytes: int = 0
    alert_delays_ms: list[float] = []
    problems: dict[str, int] = {}


class Rested(Struct, frozen=True, tag=True):
    """Samples that were sent and acknowledged since the worker began."""

    sent_samples: int
    acknowledged_samples: int


class Failed(Struct, frozen=True, tag=True):
    """The worker cannot go on."""

    message: str


Report = Ready | Begun | Counted | Rested | Failed
