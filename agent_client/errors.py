"""The tree of the agent's errors. Messages tell a person what to do next."""

from typing import ClassVar


class AgentError(Exception):
    """`exit_code` is what a program ends with when the error reaches its end (sysexits.h where it has a name)."""

    code: ClassVar[str] = "agent_error"
    exit_code: ClassVar[int] = 1
