"""A simulated agent: the frames of a real one, without its spool, journal and processes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

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
    StreamState,
    StreamStates,
    SystemInformation,
    Welcome,
)
from protocol.limits import PROTOCOL_VERSION, SAMPLES_PER_FRAME_MAX
from scripts.load.tally import Tally
from scripts.load.websocket import ClientSocket

AGENT_VERSION: Final = "0.1.0"
GIBIBYTE: Final = 1 << 30
OUTPUT: Final = "simulated\n"


class SimulatedAgent:
    """Speaks when `sample` and `heartbeat` are called, answers what the hub says, counts into `tally`.

    Samples for which there are no credits wait and go out in one frame; beyond SAMPLES_PER_FRAME_MAX the oldest is
    dropped and counted. A lost connection is counted and stays lost.
    """

    __slots__ = (
        "_credits",
        "_epoch",
        "_flights",
        "_number",
        "_sequence",
        "_silent",
        "_socket",
        "_tally",
        "_waiting",
        "welcome",
    )

    def __init__(self, number: int, tally: Tally, *, silent: bool) -> None:
        self.welcome: asyncio.Future[Welcome | None] = asyncio.get_running_loop().create_future()
        self._number = number
        self._tally = tally
        self._silent = silent
        self._socket: ClientSocket | None = None
        self._credits = 0
        self._epoch = now_ms()
        self._sequence = 0
        self._waiting: deque[Sample] = deque(maxlen=SAMPLES_PER_FRAME_MAX)
        self._flights: deque[tuple[int, float]] = deque()

    def opened(self, socket: ClientSocket) -> None:
        self._socket = socket
        self._tally.connected += 1
        if self._silent:
            self.welcome.set_result(None)
            return
        empty = StreamState(epoch=self._epoch, oldest=1, newest=0)
        self._send(
            Hello(
                protocol=(PROTOCOL_VERSION, PROTOCOL_VERSION),
                agent_version=AGENT_VERSION,
                boot_id=f"simulated-{self._number}",
                clock_ms=now_ms(),
                monotonic_ms=int(time.monotonic() * 1000),
                streams=StreamStates(live=empty, backfill=empty, events=empty),
                capabilities=["exec"],
            )
        )

    def closed(self, code: int, reason: str) -> None:
        if self._socket is not None:
            self._tally.connected -= 1
            self._socket = None
        self._tally.problems[f"closed {code}: {reason}"] += 1
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionError(reason))

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
                self._send(DesiredApplied(name=frame.name, hash=frame.hash))
            case Refuse() | Error():
                self._tally.problems[f"{frame.code}: {frame.message}"] += 1
            case Drain():
                self._tally.problems["drained"] += 1
            case _:
                pass

    def sample(self) -> None:
        """Take a sample and send it, if the credits allow."""
        self._sequence += 1
        if len(self._waiting) == self._waiting.maxlen:
            self._tally.problems["samples dropped for want of credits"] += 1
        values = figures(self._number, self._sequence)
        self._waiting.append(Sample(seq=self._sequence, ts=now_ms(), metric_type="system", metric_data=values))
        self._flush()

    def heartbeat(self) -> None:
        described = machine(self._number)
        self._send(Heartbeat(clock_ms=now_ms(), monotonic_ms=int(time.monotonic() * 1000), sysinfo=described))

    def _flush(self) -> None:
        if self._socket is None or not self._waiting or len(self._flights) >= self._credits:
            return
        samples = list(self._waiting)
        self._waiting.clear()
        self._flights.append((samples[-1].seq, time.perf_counter()))
        self._tally.sent += 1
        self._send(Metrics(epoch=self._epoch, lane=Lane.LIVE, samples=samples))

    def _acknowledged(self, frame: MetricsAck) -> None:
        self._credits = frame.credits
        now = time.perf_counter()
        kept: deque[tuple[int, float]] = deque()
        for flight in self._flights:
            newest, sent_at = flight
            if any(first <= newest <= last for first, last in frame.ranges):
                self._tally.answered += 1
                self._tally.delays_ms.append((now - sent_at) * 1000)
            else:
                kept.append(flight)
        self._flights = kept
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
