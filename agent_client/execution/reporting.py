"""What one session tells the hub of the jobs: state, output under credits, result; repeated until acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct, field

from agent_client.clock import Clock
from agent_client.execution.capture import CHUNK_MAX_BYTES
from agent_client.execution.job import Job
from agent_client.execution.jobs import Jobs
from protocol.enumerations import JobState, OutputStream
from protocol.frames import (
    CommandAccepted,
    CommandOutput,
    CommandOutputAck,
    CommandResult,
    CommandStarted,
    JobProgress,
)

GATHER_SECONDS: Final = 0.2

JobReport = CommandAccepted | CommandStarted | CommandOutput | CommandResult
Send = Callable[[JobReport], Awaitable[None]]


class _Flow(Struct):
    """One output stream on its way: what is sent, and the ends of the chunks that are not acknowledged."""

    sent: int
    sent_monotonic: float = 0.0
    in_flight: deque[int] = field(default_factory=deque)


class _Told(Struct):
    """What this session has told of one job."""

    state: JobState
    quiet_since: float
    flows: dict[OutputStream, _Flow] = field(default_factory=dict)
    result_sent: bool = False


class Reporter:
    """Lives as long as one session. Output never blocks a job: what the hub has no credit for waits on disk."""

    def __init__(
        self,
        jobs: Jobs,
        send: Send,
        clock: Clock,
        *,
        said_in_hello: Iterable[JobProgress],
        window: int,
        ack_timeout_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._send = send
        self._clock = clock
        self._window = window
        self._ack_timeout_seconds = ack_timeout_seconds
        self._is_gathering = False
        self._told = {progress.command_id: self._fresh(progress.state) for progress in said_in_hello}

    async def run(self) -> None:
        """Ends by cancellation, or with what `send` raises."""
        with self._jobs.attended():
            while True:
                self._jobs.changed.clear()
                while await self.report():
                    pass
                await self._wait_for_change()
                self._rewind_what_is_overdue()

    async def report(self) -> bool:
        """Tell what can be told now, a chunk a stream at most. Returns whether anything was sent."""
        for command_id in self._jobs.repeat & self._told.keys():
            del self._told[command_id]
        self._jobs.repeat.clear()
        for gone in self._told.keys() - self._jobs.open.keys():
            del self._told[gone]
        was_sent = self._is_gathering = False
        for job in list(self._jobs.open.values()):
            told = self._told.setdefault(job.command_id, self._fresh(JobState.UNKNOWN))
            for step in (self._tell_state, self._tell_output, self._tell_result):
                was_sent = await step(job, told) or was_sent
        return was_sent

    def output_acknowledged(self, ack: CommandOutputAck) -> None:
        job = self._jobs.open.get(ack.command_id)
        told = self._told.get(ack.command_id)
        if job is None or told is None:
            return
        self._jobs.acknowledged(job, ack.stream, ack.offset)
        flow = self._flow(job, told, ack.stream)
        flow.sent = max(flow.sent, ack.offset)
        self._window = ack.credits
        while flow.in_flight and flow.in_flight[0] <= ack.offset:
            flow.in_flight.popleft()
        told.quiet_since = self._clock.monotonic()
        self._jobs.changed.set()

    async def _tell_state(self, job: Job, told: _Told) -> bool:
        before = told.state
        if told.state is JobState.UNKNOWN:
            await self._send(CommandAccepted(command_id=job.command_id, ts=job.accepted_at))
            told.state = JobState.ACCEPTED
        if told.state is JobState.ACCEPTED and job.started_at is not None and job.has_process:
            await self._send(CommandStarted(command_id=job.command_id, ts=job.started_at))
            told.state = JobState.STARTED
        return told.state is not before

    async def _tell_output(self, job: Job, told: _Told) -> bool:
        was_sent = False
        for stream in list(job.capture.sizes):  # one may be added, or all forgotten, while something is sent
            flow = self._flow(job, told, stream)
            if self._in_flight() >= self._window or self._waits_for_more(job, stream, flow):
                continue
            chunk = job.capture.read(stream, flow.sent, is_complete=job.result is not None)
            if chunk is None:
                continue
            offset, flow.sent = flow.sent, flow.sent + chunk.length_bytes
            flow.in_flight.append(flow.sent)
            flow.sent_monotonic = self._clock.monotonic()
            told.quiet_since = self._clock.monotonic()
            await self._send(
                CommandOutput(
                    command_id=job.command_id, stream=stream, offset=offset, data=chunk.data, encoding=chunk.encoding
                )
            )
            was_sent = True
        return was_sent

    def _in_flight(self) -> int:
        return sum(len(flow.in_flight) for told in self._told.values() for flow in told.flows.values())

    def _waits_for_more(self, job: Job, stream: OutputStream, flow: _Flow) -> bool:
        """Gather the small writes that follow a chunk, so that a chatty program makes no frame a line."""
        waiting_bytes = job.capture.sizes.get(stream, 0) - flow.sent
        if job.result is not None or not 0 < waiting_bytes < CHUNK_MAX_BYTES:
            return False
        is_early = self._clock.monotonic() - flow.sent_monotonic < GATHER_SECONDS
        self._is_gathering = self._is_gathering or is_early
        return is_early

    async def _tell_result(self, job: Job, told: _Told) -> bool:
        if job.result is None or told.result_sent or not self._is_all_sent(job, told):
            return False
        told.result_sent = True
        told.quiet_since = self._clock.monotonic()
        truncated = job.result.truncated or job.capture.truncated
        await self._send(msgspec.structs.replace(job.result, truncated=truncated))
        return True

    def _is_all_sent(self, job: Job, told: _Told) -> bool:
        sizes: Mapping[OutputStream, int] = job.capture.sizes
        return all(self._flow(job, told, stream).sent >= size for stream, size in sizes.items())

    def _flow(self, job: Job, told: _Told, stream: OutputStream) -> _Flow:
        if stream not in told.flows:
            told.flows[stream] = _Flow(sent=job.acked.get(stream, 0))
        return told.flows[stream]

    def _fresh(self, state: JobState) -> _Told:
        return _Told(state, self._clock.monotonic())

    async def _wait_for_change(self) -> None:
        try:
            async with asyncio.timeout(GATHER_SECONDS if self._is_gathering else self._ack_timeout_seconds):
                await self._jobs.changed.wait()
        except TimeoutError:
            pass

    def _rewind_what_is_overdue(self) -> None:
        """Send again what the hub has been silent about; a window of 0 is tried with one chunk."""
        now = self._clock.monotonic()
        for command_id, told in self._told.items():
            job = self._jobs.open.get(command_id)
            if job is None or now - told.quiet_since < self._ack_timeout_seconds:
                continue
            told.result_sent = False
            told.quiet_since = now
            for stream, flow in told.flows.items():
                flow.sent = job.acked.get(stream, 0)
                flow.in_flight.clear()
            self._window = max(self._window, 1)
