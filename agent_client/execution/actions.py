"""What an order asks, done: a program run to its end, a signal sent, a restart prepared for when that was told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import assert_never

from msgspec import Struct

from agent_client.execution.account import NoAccount
from agent_client.execution.kin import Kin, end_remains
from agent_client.execution.orders import Plan, Reboot, RestartAgent, Signal, account_for, plan_of
from agent_client.execution.process import Ending, Program, Watch, run_process
from agent_client.execution.scripts import Scripts
from agent_client.logs import Log
from protocol.actions import BadOrder
from protocol.enumerations import Action, CommandOutcome, CommandReason, OutputStream
from protocol.envelope import JobEnvelope

_log = Log("execution")

Afterwards = Callable[[], Awaitable[None]]


class Done(Struct, frozen=True):
    """`afterwards`: what must wait until the result was told, because nobody could tell it then."""

    ending: Ending
    afterwards: Afterwards | None = None


class Actions:
    """Carries orders out; each has been verified, and written down as started."""

    def __init__(
        self,
        scripts: Scripts,
        kill_grace_seconds: float,
        kin: Kin | None = None,
        restart: Callable[[], None] | None = None,
        daemons: Callable[[], Collection[int]] = tuple,
    ) -> None:
        """`restart` makes the daemon end in order and begin anew. `daemons`: whom no order may signal."""
        self.scripts = scripts
        self._kill_grace_seconds = kill_grace_seconds
        self._kin = kin or Kin()
        self._restart = restart or _nobody
        self._daemons = daemons

    async def carry_out(self, envelope: JobEnvelope, watch: Watch) -> Done:
        """Return how it ended. When the task is cancelled, what runs is killed and CancelledError goes on."""
        with ExitStack() as stack:
            try:
                script: Path | None = None
                if envelope.action is Action.SCRIPT:
                    script = stack.enter_context(self.scripts.laid_out(envelope, account_for(envelope)))
                plan = plan_of(envelope, script, self._daemons())
            except (BadOrder, NoAccount, OSError) as error:
                return Done(_failed(str(error)))
            return await self._do(plan, watch)

    def end_remains(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """Kill what an executor that was killed has left of jobs. Returns how many processes of each there were."""
        return end_remains(job_ids)

    async def _do(self, plan: Plan, watch: Watch) -> Done:
        match plan:
            case Program():
                return Done(await run_process(plan, watch, self._kin, self._kill_grace_seconds))
            case Signal():
                watch.started()
                return Done(_sent(plan))
            case Reboot():
                return await self._reboot(plan, watch)
            case RestartAgent():
                watch.started()
                return Done(_completed("the agent restarts"), self._begin_anew)
            case _:
                assert_never(plan)

    async def _reboot(self, plan: Reboot, watch: Watch) -> Done:
        """Wait for the moment, in which a person may still change their mind."""
        watch.started()
        with suppress(TimeoutError):
            async with asyncio.timeout(plan.delay_seconds):
                await watch.cancelled.wait()
        if watch.cancelled.is_set():
            message = "cancelled by a person before the machine restarted"
            return Done(Ending(CommandOutcome.CANCELLED, CommandReason.CANCELLED_BY_PERSON, None, message))

        async def restart_machine() -> None:
            quiet = Watch(_unheard, _nobody, asyncio.Event())
            ending = await run_process(plan.program, quiet, self._kin, self._kill_grace_seconds)
            if ending.outcome is not CommandOutcome.COMPLETED:
                _log.error("the machine does not restart", command_id=plan.program.job_id, reason=ending.message)

        return Done(_completed("the machine restarts now"), restart_machine)

    async def _begin_anew(self) -> None:
        self._restart()


def _sent(plan: Signal) -> Ending:
    try:
        os.kill(plan.process_id, getattr(signal, f"SIG{plan.name}", signal.SIGTERM))
    except ProcessLookupError:
        return _failed(f"there is no process {plan.process_id}")
    except OSError as error:
        return _failed(f"process {plan.process_id} cannot be sent SIG{plan.name}: {error.strerror or error}")
    return _completed(f"SIG{plan.name} was sent to process {plan.process_id}")


def _completed(message: str) -> Ending:
    return Ending(CommandOutcome.COMPLETED, None, 0, message)


def _failed(message: str) -> Ending:
    return Ending(CommandOutcome.FAILED, CommandReason.START_FAILED, None, message[:4096])


def _unheard(_stream: OutputStream, _data: bytes) -> None:
    """Nobody hears what the program says."""


def _nobody() -> None:
    """Nothing to tell."""
