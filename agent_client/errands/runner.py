"""The daemon's side: one process an errand, with a deadline. Secrets go through its pipes, never its arguments."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio import subprocess
from contextlib import suppress
from typing import ClassVar, Final, Protocol, TypeVar

import msgspec

from agent_client.errands.shapes import Errand, Failed, Fault, Outcome
from agent_client.errors import AgentError

TIMEOUT_SECONDS: Final = 60.0
_MODULE: Final = "agent_client.errands"

_outcome_decoder: Final[msgspec.json.Decoder[Outcome]] = msgspec.json.Decoder(Outcome)

T = TypeVar("T")


class ErrandFailed(AgentError):
    """`fault` says what kind of failure; the message is for a person."""

    code: ClassVar[str] = "errand"

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Errands(Protocol):
    async def run(self, errand: Errand) -> Outcome:
        """Return what came of it, a failure too. Raises ErrandFailed when there is no answer at all."""


class ErrandProcesses:
    """Runs each errand in a new Python of this installation."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds

    async def run(self, errand: Errand) -> Outcome:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                _MODULE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except OSError as error:
            raise ErrandFailed(Fault.BROKEN, f"no process could be started: {error}") from error
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer, said = await process.communicate(msgspec.json.encode(errand))
        except TimeoutError:
            raise ErrandFailed(Fault.BROKEN, f"it took longer than {self._timeout_seconds:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return _outcome(answer, said)


async def outcome_of(errands: Errands, errand: Errand, kind: type[T]) -> T:
    """Return an outcome of the kind that only success has. Raises ErrandFailed for any other."""
    return succeeded(await errands.run(errand), kind)


def succeeded(outcome: Outcome, kind: type[T]) -> T:
    """Return `outcome` if it is of `kind`. Raises ErrandFailed."""
    if isinstance(outcome, kind):
        return outcome
    if isinstance(outcome, Failed):
        raise ErrandFailed(outcome.fault, outcome.message)
    raise ErrandFailed(Fault.BROKEN, f"{type(outcome).__name__} came back in place of {kind.__name__}")


def _outcome(answer: bytes, said: bytes) -> Outcome:
    try:
        return _outcome_decoder.decode(answer)
    except msgspec.MsgspecError as error:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise ErrandFailed(Fault.BROKEN, f"the process for it ended without an answer: {last or error}") from error
