"""The agent's version, as the hub and people see it."""

from typing import Final

AGENT_VERSION: Final = "0.1.0"
