"""Stands where a job's process is made: a script of the simulation that writes, ends, and counts how often it ran."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar

from agent_client.execution.actions import Actions, Done
from agent_client.execution.process import Ending, Watch
from protocol.enumerations import CommandOutcome, CommandReason
from protocol.envelope import JobEnvelope
from tests.simulation.life import Life
from tests.simulation.truth import Records, Truth

SPAWN_SECONDS = 0.05


class Workshop:
    """What a process of one agent's life needs to know. `now_ms`: the agent's clock."""

    def __init__(self, life: Life, records: Records, now_ms: Callable[[], int]) -> None:
        self.life = life
        self.records = records
        self.now_ms = now_ms


workshop: ContextVar[Workshop] = ContextVar("workshop")


class ScriptedActions(Actions):
    """The agent's own class, but for the processes."""

    async def carry_out(self, envelope: JobEnvelope, watch: Watch) -> Done:
        return Done(await _run(envelope, watch))

    def end_remains(self, job_ids: Collection[str]) -> Mapping[str, int]:  # noqa: ARG002  nothing is ever left
        return {}


async def _run(envelope: JobEnvelope, watch: Watch) -> Ending:
    shop = workshop.get()
    shop.life.may_die("between `started` and the process")
    truth = shop.records.truths[int(envelope.argv[1])]
    shop.records.identified(envelope.job_id, truth)
    if not truth.plan.starts:
        truth.finish(CommandOutcome.FAILED, CommandReason.START_FAILED, None, _now())
        return Ending(CommandOutcome.FAILED, CommandReason.START_FAILED, None, "there is no such program")
    _note_run(shop, truth, envelope)
    await asyncio.sleep(shop.life.chance.between(0, SPAWN_SECONDS))
    shop.life.check()
    watch.started()
    for step in truth.plan.steps:
        if await _is_cancelled_within(watch.cancelled, step.after_seconds):
            return _ended(truth, Ending(CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON, -15, "killed"))
        shop.life.check()
        truth.written.setdefault(step.stream, bytearray()).extend(step.data)
        watch.sink(step.stream, step.data)
    if truth.plan.exit_code == 0:
        return _ended(truth, Ending(CommandOutcome.COMPLETED, None, 0, ""))
    code = truth.plan.exit_code
    return _ended(truth, Ending(CommandOutcome.FAILED, CommandReason.EXIT_CODE, code, f"exit code {code}"))


def _note_run(shop: Workshop, truth: Truth, envelope: JobEnvelope) -> None:
    truth.runs += 1
    shop.life.chance.trace(f"{shop.life.name} runs job {truth.number} (run {truth.runs})")
    if truth.runs > 1:
        shop.records.breach(f"job {truth.number} ran {truth.runs} times")
    if truth.plan.is_forged:
        shop.records.breach(f"job {truth.number} ran though nobody signed it")
    if truth.is_cancelled_before_start:
        shop.records.breach(f"job {truth.number} ran though it was cancelled before its start")
    if envelope.expires_at <= shop.now_ms():
        late_ms = shop.now_ms() - envelope.expires_at
        shop.records.breach(f"job {truth.number} ran {late_ms} ms after its order had expired")


def _ended(truth: Truth, ending: Ending) -> Ending:
    truth.finish(ending.outcome, ending.reason, ending.exit_code, _now())
    return ending


async def _is_cancelled_within(cancelled: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await cancelled.wait()
    except TimeoutError:
        return False
    return True


def _now() -> float:
    return asyncio.get_running_loop().time()
