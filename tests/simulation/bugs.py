"""Bugs planted one at a time, each by a change in one place: the simulation must find every one of them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

import msgspec

from agent_client.execution import judgement as judgement_module
from agent_client.execution.capture import Capture
from agent_client.execution.job import Job
from agent_client.execution.jobs import Jobs
from agent_client.execution.journal import Entry, Journal
from agent_client.execution.reporting import Reporter
from agent_client.execution.verification import Permitted
from hub_server.commands import recorder as recorder_module
from hub_server.commands import service as service_module
from hub_server.commands import streams as streams_module
from hub_server.commands.engine import CancelRequested, Kept, Lost, Signal, advance, kept_of
from hub_server.commands.ledger import Ledger
from hub_server.commands.model import Command, OpenCommand
from hub_server.commands.recorder import Recorder
from hub_server.commands.service import CommandService
from hub_server.commands.store import CommandStore
from hub_server.commands.streams import Streams
from protocol.enumerations import CommandReason, CommandStatus, JobState, OutputStream
from protocol.envelope import JobEnvelope
from protocol.frames import CommandOutput, CommandResult, CommandResultAck, JobProgress

Planted = AbstractContextManager[Any]
_accept: Final = Journal.accept


def _accepted_only(self: Journal, *given: Any, **_starts: bool) -> int:
    return _accept(self, *given)


def the_agent_does_not_remember_orders() -> Planted:
    return patch.object(Journal, "accept", lambda self, *_, **__: self._clock.now_ms())


def the_start_is_not_written_down() -> Planted:
    return patch.multiple(Journal, accept=_accepted_only, start=lambda self, _command_id: self._clock.now_ms())


def the_start_is_written_without_fsync() -> Planted:
    def start(self: Journal, command_id: str) -> int:
        now = self._clock.now_ms()
        with self._database.transaction(durable=False):
            statement = "UPDATE jobs SET state = ?, started_at = ? WHERE id = ?"
            self._database.execute(statement, (JobState.STARTED, now, command_id))
        return now

    def accept(self: Journal, envelope: JobEnvelope, *given: Any, starts: bool) -> int:
        now = _accepted_only(self, envelope, *given)
        return start(self, envelope.job_id) if starts else now

    return patch.multiple(Journal, accept=accept, start=start)


def the_process_is_made_before_the_start_is_written_down() -> Planted:
    genuine = Jobs._run

    async def run(self: Jobs, job: Job, envelope: JobEnvelope) -> Any:
        ending = await genuine(self, job, envelope)
        self._journal.start(job.command_id)
        return ending

    def begin(self: Jobs, job: Job, _order: Permitted) -> None:
        job.started_at = self._clock.now_ms()
        job.state = JobState.STARTED
        job.capture.notify = self.changed.set

    return patch.multiple(Jobs, _run=run, _begin=begin, _may_start_now=lambda _self: False)


def the_result_is_not_written_down() -> Planted:
    return patch.object(Journal, "finish", lambda _self, _result: None)


def the_result_is_forgotten_once_it_is_sent() -> Planted:
    genuine = Reporter._tell_result

    async def tell(self: Reporter, job: Job, told: Any) -> bool:
        was_sent = await genuine(self, job, told)
        if was_sent:
            self._jobs.settled(job.command_id)
        return was_sent

    return patch.object(Reporter, "_tell_result", tell)


def the_agent_forgets_expiry() -> Planted:
    return patch.object(Journal, "effective_now_ms", lambda _self: 0)


def the_agent_believes_any_signature() -> Planted:
    def judge(command: Any, _grounds: Any) -> Permitted:
        payload = base64.b64decode(command.payload)
        return Permitted(msgspec.json.decode(payload, type=JobEnvelope), payload, [])

    return patch.multiple(judgement_module, judge=judge, objection_to=lambda *_: None)


def a_cancelled_job_that_waits_runs_all_the_same() -> Planted:
    def cancel(self: Jobs, command_id: str) -> None:
        job = self.open.get(command_id)
        if job is not None:
            job.cancelled.set()

    return patch.object(Jobs, "cancel", cancel)


def output_is_removed_when_the_agent_starts() -> Planted:
    genuine = Jobs._reopen

    def reopen(self: Jobs, entry: Entry) -> Job:
        Capture(self._output, entry.command_id, 0).discard()
        return genuine(self, entry)

    return patch.object(Jobs, "_reopen", reopen)


def output_goes_on_where_the_file_ends() -> Planted:
    genuine = Reporter._flow

    def flow(self: Reporter, job: Job, told: Any, stream: OutputStream) -> Any:
        is_new = stream not in told.flows
        found = genuine(self, job, told, stream)
        if is_new:
            found.sent = job.capture.sizes.get(stream, 0)
        return found

    return patch.object(Reporter, "_flow", flow)


def the_hub_forgets_expiry() -> Planted:
    return patch.object(Ledger, "_is_overdue", lambda _self, _command, _now: False)


def an_order_is_sent_only_once() -> Planted:
    genuine = Ledger._awaits_acceptance

    def awaits(self: Ledger, command: OpenCommand) -> bool:
        return command.status is CommandStatus.PENDING and genuine(self, command)

    return patch.object(Ledger, "_awaits_acceptance", awaits)


def an_order_is_sent_before_it_is_stored() -> Planted:
    genuine = CommandService._store_once

    async def store(self: CommandService, principal: Any, command: Command, order: Any, why: str) -> Any:
        self.ledger.created(command)
        return await genuine(self, principal, command, order, why)

    return patch.object(CommandService, "_store_once", store)


def the_last_end_wins() -> Planted:
    def heedless(command: Command, signal: Signal) -> Command:
        if command.has_ended:
            command = msgspec.structs.replace(command, status=CommandStatus.EXECUTING)
        return advance(command, signal)

    return patch.object(recorder_module, "advance", heedless)


def a_cancel_is_taken_for_an_end() -> Planted:
    def hasty(command: Command, signal: Signal) -> Command:
        if isinstance(signal, CancelRequested) and not command.has_ended:
            reason = CommandReason.CANCELLED_BY_PERSON
            return msgspec.structs.replace(command, status=CommandStatus.CANCELLED, reason=reason)
        return advance(command, signal)

    return patch.object(service_module, "advance", hasty)


def what_an_agent_has_not_got_counts_as_lost() -> Planted:
    genuine = Ledger._reconcile_one

    async def reconcile(self: Ledger, organisation_id: str, agent_id: str, command: OpenCommand, state: Any) -> None:
        if state is JobState.FINISHED and command.status is CommandStatus.EXECUTING:
            await self.signal(organisation_id, agent_id, command.id, Lost(self._clock.now()))
        await genuine(self, organisation_id, agent_id, command, state)

    return patch.object(Ledger, "_reconcile_one", reconcile)


def what_hello_leaves_out_counts_as_lost() -> Planted:
    genuine = Ledger.reconcile

    async def reconcile(self: Ledger, organisation_id: str, agent_id: str, jobs: list[JobProgress]) -> list[str]:
        named = {job.command_id for job in jobs}
        for command in self.opened.of_agent(agent_id):
            if command.id not in named:
                await self._reconcile_one(organisation_id, agent_id, command, JobState.UNKNOWN)
        return await genuine(self, organisation_id, agent_id, jobs)

    return patch.object(Ledger, "reconcile", reconcile)


def a_result_is_acknowledged_before_the_commit() -> Planted:
    genuine = Ledger.finished

    def finished(self: Ledger, organisation_id: str, agent_id: str, frame: CommandResult) -> None:
        genuine(self, organisation_id, agent_id, frame)
        self._deliver_to(organisation_id, agent_id, CommandResultAck(command_id=frame.command_id))

    return patch.object(Ledger, "finished", finished)


def output_is_acknowledged_before_the_commit() -> Planted:
    genuine = Streams.chunk

    async def chunk(self: Streams, organisation_id: str, agent_id: str, frame: CommandOutput) -> None:
        await genuine(self, organisation_id, agent_id, frame)
        self._acknowledge(organisation_id, agent_id, frame, self._ends[frame.command_id][frame.stream])

    return patch.object(Streams, "chunk", chunk)


def what_a_commit_did_not_take_is_dropped() -> Planted:
    return patch.object(Recorder, "_put_back", lambda _self, _batch: None)


def output_is_stored_wherever_it_starts() -> Planted:
    def kept(data: bytes, *, offset: int, held_bytes: int, limit_bytes: int) -> Kept:
        return kept_of(data, offset=held_bytes, held_bytes=held_bytes, limit_bytes=limit_bytes)

    return patch.object(streams_module, "kept_of", kept)


def the_key_of_an_order_is_not_looked_at() -> Planted:
    return patch.object(CommandStore, "find_by_key", lambda *_given: None)


PLANTED: Final[Mapping[str, Callable[[], Planted]]] = {
    plant.__name__: plant
    for plant in (
        the_agent_does_not_remember_orders,
        the_start_is_not_written_down,
        the_start_is_written_without_fsync,
        the_process_is_made_before_the_start_is_written_down,
        the_result_is_not_written_down,
        the_result_is_forgotten_once_it_is_sent,
        the_agent_forgets_expiry,
        the_agent_believes_any_signature,
        a_cancelled_job_that_waits_runs_all_the_same,
        output_is_removed_when_the_agent_starts,
        output_goes_on_where_the_file_ends,
        the_hub_forgets_expiry,
        an_order_is_sent_only_once,
        an_order_is_sent_before_it_is_stored,
        the_last_end_wins,
        a_cancel_is_taken_for_an_end,
        what_an_agent_has_not_got_counts_as_lost,
        what_hello_leaves_out_counts_as_lost,
        a_result_is_acknowledged_before_the_commit,
        output_is_acknowledged_before_the_commit,
        what_a_commit_did_not_take_is_dropped,
        output_is_stored_wherever_it_starts,
        the_key_of_an_order_is_not_looked_at,
    )
}
