"""A simulated agent: the frames of a real one, without its spool, journal and processes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from hub_server.bench.orders import Pressure, Values
from hub_server.bench.tally import Tally
from hub_server.bench.websocket import ClientSocket
from protocol.codec import BadFrame, decode_hub_frame, encode
from protocol.enumerations import CommandOutcome, Lane, OutputStream
from protocol.frames import (
    AgentFrame,
    Command,
    CommandAccepted,
    CommandOutput,
    CommandResult,
    CommandStarted,
    Desired,
    DesiredApplied,
    Drain,
    Error,
    Heartbeat,
    Hello,
    Metrics,
    MetricsAck,
    MetricValue,
    Refuse,
    Sample,
    StateHashes,
    StreamState,
    StreamStates,
    SystemInformation,
    Welcome,
)
from protocol.limits import PROTOCOL_VERSION, SAMPLES_PER_FRAME_MAX

AGENT_VERSION: Final = "0.1.0"
GIBIBYTE: Final = 1 << 30
ALARMING_PERCENT: Final = 97.0
FLIGHTS_MAX: Final = 64
NO_PRESSURE: Final = Pressure(samples_per_frame=1, frames_per_second=0.0)
OUTPUT: Final = "simulated\n"


class SimulatedAgent:
    """Speaks when `sample`, `press` and `heartbeat` are called, answers what the hub says, counts into `tally`.

    Samples for which there are no credits wait and go out in one frame; beyond SAMPLES_PER_FRAME_MAX the oldest is
    dropped and counted. A lost connection is counted; what was not acknowledged before is not sent again on the next.
    What the hub desired is known there, as a real agent knows it.
    Its processor is busy for `alarm_samples`, then calm for as many; always calm without them.
    """

    __slots__ = (
        "_alarm_samples",
        "_applied",
        "_credits",
        "_epoch",
        "_flights",
        "_is_described",
        "_metric_types",
        "_newest_ms",
        "_number",
        "_pressure",
        "_sequence",
        "_silent",
        "_socket",
        "_tally",
        "_values",
        "_waiting",
        "welcome",
    )

    def __init__(
        self,
        number: int,
        tally: Tally,
        *,
        silent: bool,
        values: Values = "agent",
        pressure: Pressure = NO_PRESSURE,
        metric_types: Sequence[str] = ("system",),
        alarm_samples: int = 0,
    ) -> None:
        self.welcome: asyncio.Future[Welcome | None] = asyncio.get_running_loop().create_future()
        self._alarm_samples = alarm_samples
        self._applied: dict[str, str] = {}
        self._number = number
        self._tally = tally
        self._silent = silent
        self._values = figures if values == "agent" else seed_figures
        self._metric_types = metric_types
        self._pressure = pressure
        self._socket: ClientSocket | None = None
        self._credits = 0
        self._epoch = now_ms()
        self._is_described = False
        self._newest_ms = 0
        self._sequence = 0
        self._waiting: deque[Sample] = deque(maxlen=SAMPLES_PER_FRAME_MAX)
        self._flights: deque[tuple[int, int, float]] = deque(maxlen=FLIGHTS_MAX)

    @property
    def number(self) -> int:
        return self._number

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    @property
    def is_waiting(self) -> bool:
        """Tell whether samples are not yet acknowledged on this connection."""
        return bool(self._flights)

    def begin_anew(self) -> None:
        """Call before each further connection."""
        self.welcome = asyncio.get_running_loop().create_future()

    def opened(self, socket: ClientSocket) -> None:
        self._socket = socket
        self._tally.connected += 1
        self._is_described = False
        if self._silent:
            self.welcome.set_result(None)
            return
        state = StreamState(epoch=self._epoch, oldest=self._sequence + 1, newest=self._sequence)
        empty = StreamState(epoch=self._epoch, oldest=1, newest=0)
        self._send(
            Hello(
                protocol=(PROTOCOL_VERSION, PROTOCOL_VERSION),
                agent_version=AGENT_VERSION,
                boot_id=f"simulated-{self._number}",
                clock_ms=now_ms(),
                monotonic_ms=int(time.monotonic() * 1000),
                streams=StreamStates(live=state, backfill=empty, events=empty),
                capabilities=["exec"],
                hashes=StateHashes(**self._applied),
            )
        )

    def closed(self, code: int, reason: str) -> None:
        if self._socket is not None:
            self._tally.connected -= 1
            self._socket = None
        self._flights.clear()
        self._tally.problems[f"closed {code}: {reason}"] += 1
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionError(reason))
            self.welcome.exception()  # it counts as seen, also when nobody waits for it

    def received(self, text: bytes) -> None:
        try:
            frame = decode_hub_frame(text)
        except BadFrame as bad:
            self._tally.problems[f"frame not understood: {bad}"] += 1
            return
        match frame:
            case MetricsAck():
                self._acknowledged(frame)
            case Command():
                self._run(frame)
            case Welcome():
                self._credits = frame.credits.get(Lane.LIVE, 1)
                if not self.welcome.done():
                    self.welcome.set_result(frame)
            case Desired():
                self._applied[frame.name.value] = frame.hash
                self._send(DesiredApplied(name=frame.name, hash=frame.hash))
            case Refuse() | Error():
                self._tally.problems[f"{frame.code}: {frame.message}"] += 1
            case Drain():
                self._tally.problems["drained"] += 1
            case _:
                pass

    def sample(self) -> None:
        """Take a sample of each type and send them, if the credits allow."""
        if len(self._waiting) + len(self._metric_types) > SAMPLES_PER_FRAME_MAX:
            self._tally.problems["samples dropped for want of credits"] += 1
        self._waiting.extend(self._taken(now_ms(), metric_type) for metric_type in self._metric_types)
        if len(self._flights) < self._credits:
            self._flush()

    def press(self) -> None:
        """Send the next frame, if the pressure and the credits allow; its samples were taken just before."""
        if self._socket is None or len(self._flights) >= min(self._pressure.in_flight, self._credits):
            return
        count = self._pressure.samples_per_frame
        first_ms = max(self._newest_ms + 1, now_ms() - count)
        self._newest_ms = first_ms + count - 1
        self._waiting.extend(self._taken(first_ms + index, "system") for index in range(count))
        self._flush()

    def heartbeat(self) -> None:
        """Describe the machine in the first heartbeat of a connection, as a real agent does."""
        described, self._is_described = None if self._is_described else machine(self._number), True
        self._send(Heartbeat(clock_ms=now_ms(), monotonic_ms=int(time.monotonic() * 1000), sysinfo=described))

    def _taken(self, ts: int, metric_type: str) -> Sample:
        self._sequence += 1
        values = self._values(self._number, self._sequence)
        if self._alarm_samples and self._sequence // self._alarm_samples % 2 == 0:
            values["cpu_percent"] = ALARMING_PERCENT
        return Sample(seq=self._sequence, ts=ts, metric_type=metric_type, metric_data=values)

    def _flush(self) -> None:
        if self._socket is None or not self._waiting:
            return
        samples = list(self._waiting)
        self._waiting.clear()
        self._flights.append((samples[-1].seq, len(samples), time.perf_counter()))
        self._tally.sent += 1
        self._tally.sent_samples += len(samples)
        self._send(Metrics(epoch=self._epoch, lane=Lane.LIVE, samples=samples))

    def _acknowledged(self, frame: MetricsAck) -> None:
        self._credits = frame.credits
        now = time.perf_counter()
        for flight in list(self._flights):
            newest, count, sent_at = flight
            if any(first <= newest <= last for first, last in frame.ranges):
                self._flights.remove(flight)
                self._tally.answered += 1
                self._tally.samples += count
                self._tally.acknowledged_samples += count
                self._tally.delays_ms.append((now - sent_at) * 1000)
        if len(self._flights) < self._credits:
            self._flush()

    def _run(self, command: Command) -> None:
        """Say what a real agent says of a command that prints a line; nothing is run."""
        command_id, ts = command.command_id, now_ms()
        self._send(CommandAccepted(command_id=command_id, ts=ts))
        self._send(CommandStarted(command_id=command_id, ts=ts))
        self._send(CommandOutput(command_id=command_id, stream=OutputStream.STDOUT, offset=0, data=OUTPUT))
        self._send(
            CommandResult(
                command_id=command_id,
                status=CommandOutcome.COMPLETED,
                exit_code=0,
                started_at=ts,
                finished_at=now_ms(),
                output_bytes={OutputStream.STDOUT: len(OUTPUT), OutputStream.STDERR: 0},
            )
        )

    def _send(self, frame: AgentFrame) -> None:
        if self._socket is not None:
            self._socket.send(encode(frame))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def machine(number: int) -> SystemInformation:
    return SystemInformation(
        hostname=f"simulated-{number:05}",
        os="linux",
        os_version="simulated",
        arch="x86_64",
        cpu_count=4,
        memory_total_bytes=8 * GIBIBYTE,
        ip_addresses=[address_of(number)],
    )


def address_of(number: int) -> str:
    """Return the loopback address that agent `number` calls from, so that limits by address see many machines."""
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


def figures(number: int, sequence: int) -> dict[str, MetricValue]:
    """Return values as a healthy machine's, different each time, and below every default alert threshold."""
    wobble = (number * 7 + sequence * 13) % 40
    return {
        "cpu_percent": 5.0 + wobble,
        "cpu_count": 4,
        "load_1m": 0.5 + wobble / 40,
        "load_5m": 0.6,
        "load_15m": 0.7,
        "memory_percent": 30.0 + wobble / 2,
        "memory_used_bytes": 3 * GIBIBYTE + wobble * 1024,
        "memory_total_bytes": 8 * GIBIBYTE,
        "swap_percent": 0.0,
        "disk_percent": 41.5,
        "disk_used_bytes": 83 * GIBIBYTE,
        "disk_total_bytes": 200 * GIBIBYTE,
        "disk_mount": "/",
        "network_bytes_sent": 1_000_000 + sequence * 5000,
        "network_bytes_recv": 9_000_000 + sequence * 7000,
        "network_sent_bytes_per_sec": 500.0 + wobble,
        "network_recv_bytes_per_sec": 700.0 + wobble,
        "uptime_seconds": 100_000 + sequence * 10,
        "process_count": 150 + wobble,
    }


def seed_figures(number: int, sequence: int) -> dict[str, MetricValue]:
    """Return eight values: the sample that the promises about the store and the intake are about."""
    wobble = (number * 7 + sequence * 13) % 40
    return {
        "cpu_percent": 5.0 + wobble,
        "memory_percent": 30.0 + wobble / 2,
        "memory_used_bytes": 3 * GIBIBYTE + wobble * 1024,
        "disk_percent": 41.5,
        "disk_used_bytes": 83 * GIBIBYTE,
        "network_bytes_sent": 1_000_000 + sequence * 5000,
        "network_bytes_recv": 9_000_000 + sequence * 7000,
        "uptime_seconds": 100_000 + sequence * 10,
    }
