"""Security facts as a collector of the daemon."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import ClassVar, Final

import msgspec

from agent_client.children import Child, own_environment, own_module, run_child
from agent_client.collectors.readings import Readings
from agent_client.collectors.watch import Watch
from agent_client.errors import AgentError
from agent_client.security.facts import Findings
from agent_client.security.stamps import INSTALLED, LISTS, SETTINGS

INTERVAL_SECONDS: Final = 900.0
FIRST_AFTER_SECONDS: Final = (10.0, 20.0)
TIMEOUT_SECONDS: Final = 180.0
OUTPUT_MAX_BYTES: Final = 64 * 1024


class SecurityUnknown(AgentError):
    """The process that looks at the machine's security gave no answer."""

    code: ClassVar[str] = "security_unknown"


class SecurityCollector:
    """`security`: every 15 minutes, and soon after packages, their lists or the firewall's settings were changed."""

    name: Final = "security"
    interval_seconds: Final = INTERVAL_SECONDS

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        self._is_wanted = is_wanted
        self._memo = b""
        self._watch = Watch((*INSTALLED, *LISTS, *SETTINGS), is_wanted)

    def is_wanted(self) -> bool:
        return self._is_wanted()

    def first_wait_seconds(self) -> float:
        return random.uniform(*FIRST_AFTER_SECONDS)  # noqa: S311  spreads load, no secret

    async def collect(self) -> Readings:
        """Raises ChildFailed or SecurityUnknown."""
        self._watch.reset()
        child = Child(
            argv=own_module("agent_client.security"),
            timeout_seconds=TIMEOUT_SECONDS,
            output_max_bytes=OUTPUT_MAX_BYTES,
            environment=own_environment(),
        )
        ended = await run_child(child, self._memo)
        if ended.exit_code != 0:
            raise SecurityUnknown(f"the process that looks at it {ended.story}")
        findings = msgspec.json.decode(ended.output, type=Findings)
        self._memo = msgspec.json.encode(findings.memo)
        figures = msgspec.to_builtins(findings.facts)
        return {self.name: figures} if figures else {}

    async def woken(self) -> None:
        await self._watch.changed()
