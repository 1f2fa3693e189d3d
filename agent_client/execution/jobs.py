"""The jobs of this agent: from an order to a result that the hub holds."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_client.clock import Clock
from agent_client.execution.actions import Actions, Done
from agent_client.execution.capture import Capture, remove_strays
from agent_client.execution.job import Job
from agent_client.execution.journal import Entry, Journal
from agent_client.execution.judgement import Judge
from agent_client.execution.process import Ending, Watch
from agent_client.execution.scripts import Scripts
from agent_client.execution.terms import Terms
from agent_client.execution.unrun import CANCELLED, EXPIRED, UNREADABLE, not_any_more, overtaken, refused, unwritten
from agent_client.execution.verification import Denied, Permitted, Rule, SignatureCheck
from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from agent_client.store.secure import StoreError
from protocol.enumerations import Action, CommandOutcome, CommandReason, JobState, OutputStream
from protocol.envelope import JobEnvelope
from protocol.frames import Command, CommandResult, CommandState, JobProgress

UNFINISHED_MAX: Final = 256
OPEN_MAX: Final = 512
"""So many jobs may wait with their output on disk, to run or for the hub to take their result."""
HELLO_JOBS_MAX: Final = 256
TOLD_SECONDS: Final = 5.0

_log = Log("execution")


class JobBounds(Struct, frozen=True):
    running_max: int
    kill_grace_seconds: float


class Jobs:
    """Accepts, runs and remembers jobs. `run()` owns their tasks; sessions may come and go meanwhile.

    `changed` is set whenever there may be something to report; `repeat` holds ids whose whole story is to be told anew;
    `notify` is called when a job was accepted, has begun, has ended, or was forgotten.
    """

    def __init__(
        self,
        journal: Journal,
        terms: Callable[[], Terms],
        clock: Clock,
        output: Path,
        bounds: JobBounds,
        is_signed_by: SignatureCheck | None = None,
        actions: Actions | None = None,
    ) -> None:
        """`terms` may raise AgentError: then no order is accepted, and none begins.

        Jobs that a crash has cut off are settled here.
        """
        self.changed = asyncio.Event()
        self.open: dict[str, Job] = {}
        self.repeat: set[str] = set()
        self.notify: Callable[[], None] = _nobody
        self._unwanted: deque[str] = deque(maxlen=UNFINISHED_MAX)
        self._acknowledged = asyncio.Event()
        self._journal = journal
        self._clock = clock
        self._output = output
        self._actions = actions or Actions(Scripts(output.with_name("scripts")), bounds.kill_grace_seconds)
        self._scripts = self._actions.scripts
        self._sessions = 0
        self._slots = self._free_slots = bounds.running_max
        self._judge = Judge(journal, terms, is_signed_by)
        self._waiting: dict[str, tuple[Job, Permitted]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._take_up([self._reopen(entry) for entry in journal.open_entries()])
        remove_strays(output, self.open)
        self._scripts.remove_strays(self.open)

    async def run(self) -> None:
        """Run jobs as they come, first those a crash kept from starting. Ends by cancellation: what runs is killed."""
        try:
            async with asyncio.TaskGroup() as self._group:
                try:
                    self._run_waiting()
                    await asyncio.get_running_loop().create_future()
                finally:
                    self._group = None
        finally:
            self._free_slots = self._slots
            for job in self.open.values():
                self._interrupt(job)  # also one whose task was cancelled before its first step

    def receive(self, command: Command) -> CommandResult | None:
        """Accept an order, or return why not. One that is known never runs again: its story is told anew."""
        try:
            if self._tell_again(command.command_id):
                return None
            if command.command_id in self._unwanted:
                return overtaken(command.command_id)
            decision = self._decision_on(command)
            if isinstance(decision, Denied):
                return refused(command.command_id, decision)
            envelope = decision.envelope
            if envelope.action is Action.SCRIPT:
                self._scripts.keep(envelope.job_id, base64.b64decode(command.script))
            starts = self._may_start_now()
            accepted_at = self._journal.accept(envelope, decision.payload, decision.signatures, starts=starts)
        except (DatabaseError, StoreError) as error:
            return refused(command.command_id, Denied(Rule.JOURNAL, f"the agent cannot write its journal: {error}"))
        job = self._make(envelope.job_id, JobState.ACCEPTED, accepted_at, envelope.output_limit_bytes)
        if starts:
            self._note_start(job, accepted_at)
        self._waiting[job.command_id] = (job, decision)
        self._run_waiting()
        if not starts:  # else all is told once there is a process, which need not wait for who is woken by that
            self.changed.set()
            self.notify()
        what = envelope.argv[0][:256] if envelope.action is Action.EXEC else envelope.interpreter or ""
        _log.info("job accepted", command_id=job.command_id, action=envelope.action, program=what)
        return None

    def cancel(self, command_id: str) -> None:
        """Stop a job; one that waits is ended without having run. Nothing happens to one that has ended.

        One that is not known is refused when it comes: its cancel has overtaken it, and the hub was told `unknown`.
        """
        job = self.open.get(command_id)
        if job is None:
            self._unwanted.append(command_id)
            return
        if job.result is not None:
            return
        _log.info("job to be cancelled", command_id=command_id)
        if job.state is JobState.ACCEPTED:
            self._waiting.pop(command_id, None)
            self._finish(job, CANCELLED)
        job.cancelled.set()

    def state_of(self, command_id: str) -> CommandState:
        job = self.open.get(command_id)
        if job:
            return CommandState(command_id=command_id, state=job.state, offsets=dict(job.capture.sizes))
        entry = self._journal.find(command_id)
        return CommandState(command_id=command_id, state=entry.state if entry else JobState.UNKNOWN)

    def progress(self) -> list[JobProgress]:
        """Return what `hello` says of the open jobs, oldest first; bounded, so that the frame stays small."""
        return [
            JobProgress(command_id=job.command_id, state=job.state, offsets=dict(job.capture.sizes))
            for job in list(self.open.values())[:HELLO_JOBS_MAX]
        ]

    def held_open(self, command_ids: Iterable[str]) -> None:
        """Tell anew the result of jobs that the hub still holds open though it has acknowledged them."""
        for command_id in command_ids:
            if command_id not in self.open:
                self._tell_again(command_id)

    def settled(self, command_id: str) -> None:
        """The hub holds the result: forget the output, remember the id.

        What the journal does not take stays open, and is told again: a life after this one would run an order that
        ended here without having begun.
        """
        job = self.open.get(command_id)
        if job is None or job.result is None:
            return
        try:
            if not job.is_written:
                self._write_down(job, job.result)
            self._journal.acknowledge(command_id)
        except DatabaseError as error:
            _log.error("acknowledgement not written down", command_id=command_id, reason=str(error))
            return
        del self.open[command_id]
        self._acknowledged.set()
        job.capture.discard()
        self.notify()

    def acknowledged(self, job: Job, stream: OutputStream, offset: int) -> None:
        """The hub holds the stream's bytes below `offset`."""
        job.acked[stream] = max(job.acked.get(stream, 0), offset)
        self._slow(job)

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Inside the block a session is there: jobs that run ahead of it are slowed. Without one they never are."""
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1
            for job in self.open.values():
                self._slow(job)

    async def told(self) -> None:
        """Wait until the hub holds the result of every job that has ended. The caller has a deadline."""
        while any(job.result for job in self.open.values()):
            self._acknowledged.clear()
            await self._acknowledged.wait()

    def close(self) -> None:
        """Let go of the files of jobs that are still open; they stay on disk for the next start."""
        for job in self.open.values():
            job.capture.close()

    def running(self) -> int:
        return sum(job.state is JobState.STARTED for job in self.open.values())

    def unfinished(self) -> int:
        return sum(job.result is None for job in self.open.values())

    def _take_up(self, jobs: list[Job]) -> None:
        """Settle what the life before this one has left: what has started is interrupted, what waits goes on."""
        remains = self._actions.end_remains([job.command_id for job in jobs if job.state is JobState.STARTED])
        waiting = {order.envelope.job_id: order for order in self._journal.not_started()}
        for job in jobs:
            order = waiting.get(job.command_id)
            if job.state is JobState.STARTED:
                ended = remains.get(job.command_id, 0)
                _log.warn("job interrupted by the executor's end", command_id=job.command_id, processes_ended=ended)
                self._interrupt(job, f"; {ended} processes it had left were ended" if ended else "")
            elif order is not None:
                again = self._make(job.command_id, job.state, job.accepted_at, order.envelope.output_limit_bytes)
                self._waiting[job.command_id] = (again, order)
            elif job.result is None:
                self._finish(job, UNREADABLE)

    def _decision_on(self, command: Command) -> Permitted | Denied:
        if self.unfinished() >= UNFINISHED_MAX:
            return Denied(Rule.TOO_MANY_JOBS, f"this agent already has {UNFINISHED_MAX} unfinished jobs")
        if len(self.open) >= OPEN_MAX:
            ended = len(self.open) - self.unfinished()
            message = f"the hub has not taken the results of {ended} jobs; this agent accepts more when it has"
            return Denied(Rule.TOO_MANY_JOBS, message)
        return self._judge.decide(command)

    def _may_start_now(self) -> bool:
        """Tell whether an order that comes now has nothing to wait for."""
        return self._group is not None and self._free_slots > 0 and not self._waiting

    def _run_waiting(self) -> None:
        """Give free places to those that wait, in the order in which they came."""
        while self._group is not None and self._waiting and self._free_slots > 0:
            job, order = self._waiting.pop(next(iter(self._waiting)))
            self._free_slots -= 1
            self._group.create_task(self._execute(job, order), name=f"job-{job.command_id}")

    async def _execute(self, job: Job, order: Permitted) -> None:
        try:
            try:
                self._begin(job, order)
            except DatabaseError as error:
                self._finish(job, unwritten(error))
            if job.result is None:
                done = await self._run(job, order.envelope)
                self._finish(job, done.ending)
                if done.afterwards is not None:
                    await self._told(job)
                    await done.afterwards()
        except Exception as error:  # noqa: BLE001  one job's fault is not the others'
            _log.error("job failed inside the agent", command_id=job.command_id, exception=error)
            message = f"the agent failed while it ran the job: {type(error).__name__}"
            if job.result is None:
                self._finish(job, Ending(CommandOutcome.FAILED, CommandReason.UNKNOWN, None, message))
        finally:
            self._free_slots += 1
            self._run_waiting()

    def _begin(self, job: Job, order: Permitted) -> None:
        """Write down that the job starts, before it does; one that may not run any more ends here.

        One that had nothing to wait for was judged, and written down, when it came. Raises DatabaseError.
        """
        if job.result is not None:
            return
        if job.state is JobState.STARTED:
            if job.cancelled.is_set():
                job.started_at = None
                self._finish(job, CANCELLED)
            return
        if order.envelope.expires_at <= self._journal.effective_now_ms():
            self._finish(job, EXPIRED)
            return
        if denied := self._judge.objection(order):
            self._finish(job, not_any_more(denied))
            return
        self._note_start(job, self._journal.start(job.command_id))

    def _note_start(self, job: Job, started_at: int) -> None:
        job.started_at = started_at
        job.state = JobState.STARTED
        job.capture.notify = partial(self._wrote, job)

    async def _run(self, job: Job, envelope: JobEnvelope) -> Done:
        def started() -> None:
            job.has_process = True
            self.changed.set()
            self.notify()

        watch = Watch(job.capture.write, started, job.cancelled, job.valve)
        return await self._actions.carry_out(envelope, watch)

    def _wrote(self, job: Job) -> None:
        self.changed.set()
        self._slow(job)

    def _slow(self, job: Job) -> None:
        job.valve.turn(is_closed=self._sessions > 0 and job.is_ahead())

    async def _told(self, job: Job) -> None:
        """Wait until the hub holds the job's result, a bounded time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TOLD_SECONDS):
                while job.command_id in self.open:
                    self._acknowledged.clear()
                    await self._acknowledged.wait()

    def _interrupt(self, job: Job, more: str = "") -> None:
        if job.result is None and job.state is JobState.STARTED:
            message = f"the agent's executor ended while the job ran{more}"
            self._finish(job, Ending(CommandOutcome.FAILED, CommandReason.INTERRUPTED, None, message))

    def _finish(self, job: Job, ending: Ending) -> None:
        job.capture.finish()
        job.capture.sync()
        self._scripts.discard(job.command_id)
        job.result = CommandResult(
            command_id=job.command_id,
            status=ending.outcome,
            exit_code=ending.exit_code,
            reason=ending.reason,
            result=ending.message,
            rule=ending.rule,
            started_at=job.started_at,
            finished_at=self._clock.now_ms(),
            output_bytes=dict(job.capture.written),
            truncated=job.capture.truncated,
        )
        job.state = JobState.FINISHED
        try:
            self._write_down(job, job.result)
        except DatabaseError as error:  # told in this life, and tried again before the hub's word for it is taken
            _log.error("result not written down", command_id=job.command_id, reason=str(error))
        self.changed.set()
        self.notify()
        told = {"status": ending.outcome, "reason": ending.reason, "exit_code": ending.exit_code}
        _log.info("job ended", command_id=job.command_id, **told)

    def _write_down(self, job: Job, result: CommandResult) -> None:
        """Raises DatabaseError."""
        self._journal.finish(result)
        job.is_written = True

    def _tell_again(self, command_id: str) -> bool:
        """Return whether the journal knows the job; if so its story is told anew."""
        if command_id not in self.open:
            entry = self._journal.find(command_id)
            if entry is None:
                return False
            self._reopen(entry)
        self.repeat.add(command_id)
        self.changed.set()
        return True

    def _reopen(self, entry: Entry) -> Job:
        job = self._make(entry.command_id, entry.state, entry.accepted_at, limit_bytes=0)
        job.result = entry.result
        job.is_written = entry.result is not None
        job.started_at = entry.result.started_at if entry.result else entry.started_at
        job.has_process = job.started_at is not None
        if entry.result and not entry.acknowledged:
            job.capture.compare(entry.result.output_bytes)
        return job

    def _make(self, command_id: str, state: JobState, accepted_at: int, limit_bytes: int) -> Job:
        job = Job(command_id, state, accepted_at, Capture(self._output, command_id, limit_bytes))
        self.open[command_id] = job
        return job


def _nobody() -> None:
    """Nobody asks how things stand."""
